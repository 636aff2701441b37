#include "agent/runtime/containerd/mount_points.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <algorithm>
#include <cerrno>
#include <set>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "agent/base/fd.h"
#include "agent/runtime/containerd/root_walk.h"
#include "agent/runtime/etc_files.h"
#include "agent/runtime/oci_spec.h"

namespace ctr {
namespace {

constexpr char kImageAdvice[] = "change the image, or destroy the instance if it has made that";

Status CannotBe(absl::string_view what, absl::string_view why) {
  return Error(absl::StatusCode::kFailedPrecondition, code::kStartFailed,
               absl::StrCat(what, " can't be made: ", why));
}

StatusOr<UniqueFd> OpenFolder(const std::string& path) {
  UniqueFd folder(::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!folder.valid()) return ErrnoError(errno, absl::StrCat("cannot open ", path));
  return folder;
}

// Finds the places of all, in a root file system that is mounted at `path` for this alone.
class Finder {
 public:
  Finder(const std::string& path, WalkRoot root, const WantedMounts& wanted)
      : path_(path),
        root_(root),
        wanted_(wanted),
        links_(wanted.read_only ? Links::kOfImage : Links::kAll) {}

  StatusOr<MountPoints> Run() {
    for (const char* name : {"dev", "proc", "sys"}) CTR_RETURN_IF_ERROR(MakeRealFolder(name));
    CTR_ASSIGN_OR_RETURN(etc_, WalkTo(root_, {"/etc", kImageAdvice}, "/etc",
                                      {.links = links_, .make = WalkRules::Make::kFolders}));
    if (const std::string why = WhyNoVolume(etc_ + "/hosts"); !why.empty()) {
      return CannotBe("/etc",
                      absl::StrCat("it leads to ", etc_, ", and ", why, ": ", kImageAdvice));
    }
    CTR_RETURN_IF_ERROR(FindVolumes());
    CTR_RETURN_IF_ERROR(MakeImageVolumes());
    if (!found_.volumes.empty()) {
      // What the container has there is new, too.
      CTR_RETURN_IF_ERROR(Mount("tmpfs", "/dev", "tmpfs", 0, "size=64k"));
    }
    for (const Volume& volume : found_.volumes) CTR_RETURN_IF_ERROR(MountVolume(volume));
    for (const char* name : kEtcFiles) CTR_RETURN_IF_ERROR(FindEtcFile(name));
    return std::move(found_);
  }

 private:
  Status MakeRealFolder(const char* name) const {
    struct stat info{};
    const bool exists = ::fstatat(root_.fd, name, &info, AT_SYMLINK_NOFOLLOW) == 0;
    if (exists && S_ISDIR(info.st_mode)) return absl::OkStatus();
    if (exists) ::unlinkat(root_.fd, name, 0);
    if (::mkdirat(root_.fd, name, 0755) == 0) return absl::OkStatus();
    return ErrnoError(errno, absl::StrCat("cannot make /", name, " in the root file system"));
  }

  // By the root file system's own links, and nothing is made yet: one may hide what another is in.
  Status FindVolumes() {
    for (const Volume& volume : wanted_.volumes) {
      const WalkTarget target = {
          absl::StrCat("the volume ", volume.path),
          absl::StrCat("choose another `path` in the class, ", kImageAdvice)};
      CTR_ASSIGN_OR_RETURN(std::string place,
                           WalkTo(root_, target, volume.path, {.links = links_}));
      std::string why = WhyNoVolume(place);
      if (places_.contains(place)) why = "another one is there";
      if (!why.empty()) {
        return CannotBe(target.what, absl::StrCat("links lead it to ", place, ", and ", why, ": ",
                                                  target.advice));
      }
      for (const char* name : kEtcFiles) {
        if (volume.path == absl::StrCat("/etc/", name)) found_.etc[name] = place;
      }
      places_.insert(place);
      found_.volumes.push_back(volume);
      found_.volumes.back().path = std::move(place);
    }
    std::sort(found_.volumes.begin(), found_.volumes.end(),
              [](const Volume& a, const Volume& b) { return a.path < b.path; });
    return absl::OkStatus();
  }

  // What the class or we have at such a place goes before.
  Status MakeImageVolumes() {
    // Nothing is mounted there: what the instance has made of it is its own affair.
    if (!wanted_.read_only && !wanted_.is_new) return absl::OkStatus();
    WalkRules rules = {.links = links_, .make = WalkRules::Make::kFolders, .stops = places_};
    for (const char* name : kEtcFiles) rules.stops.insert(EtcPlace(name));
    for (const std::string& volume : wanted_.image_volumes) {
      const WalkTarget target = {absl::StrCat("the image's VOLUME ", volume), kImageAdvice};
      CTR_ASSIGN_OR_RETURN(std::string place, WalkTo(root_, target, volume, rules));
      if (!rules.stops.contains(place)) found_.image_volumes.push_back(std::move(place));
    }
    return absl::OkStatus();
  }

  // Where the outer ones are mounted, for what will be inside it.
  Status MountVolume(const Volume& volume) const {
    const bool is_inner =
        std::any_of(found_.volumes.begin(), found_.volumes.end(), [&](const Volume& outer) {
          return outer.path != volume.path && IsBelow(volume.path, outer.path);
        });
    const WalkTarget target = {
        absl::StrCat("the volume ", volume.path),
        absl::StrCat("choose another `path` in the class, or ",
                     is_inner ? "make it there in the volume that it is in" : kImageAdvice)};
    struct stat info{};
    if (!volume.host.empty() && ::stat(volume.host.c_str(), &info) != 0) {
      return Error(
          absl::StatusCode::kFailedPrecondition, code::kStartFailed,
          absl::StrCat(target.what, " is ", volume.host, " on the host, which can't be had (",
                       std::generic_category().message(errno),
                       "): make it there, or change `host` in the class"));
    }
    const bool file = !volume.host.empty() && !S_ISDIR(info.st_mode);
    const char* const in_root = volume.path.c_str() + 1;
    const bool is_new = ::fstatat(root_.fd, in_root, &info, AT_SYMLINK_NOFOLLOW) != 0;
    CTR_RETURN_IF_ERROR(WalkTo(root_, target, volume.path,
                               {.make = file ? WalkRules::Make::kFile : WalkRules::Make::kFolders})
                            .status());
    if (volume.host.empty()) {
      // runc gives the memory the mode of what was there: whoever the class's user is writes to it.
      if (is_new) ::fchmodat(root_.fd, in_root, 01777, 0);
      return Mount("tmpfs", volume.path, "tmpfs", 0, "size=64k");
    }
    CTR_RETURN_IF_ERROR(Mount(volume.host.c_str(), volume.path, nullptr, MS_BIND | MS_REC, ""));
    if (!volume.read_only) return absl::OkStatus();
    return Mount("", volume.path, nullptr, MS_BIND | MS_REMOUNT | MS_RDONLY, "");
  }

  Status Mount(const char* source, const std::string& place, const char* type, unsigned long flags,
               const char* options) const {
    if (::mount(source, (path_ + place).c_str(), type, flags, options) == 0) {
      return absl::OkStatus();
    }
    return ErrnoError(errno, absl::StrCat("cannot mount ", source, " at ", place));
  }

  std::string EtcPlace(const char* name) const {
    return absl::StrCat(etc_ == "/" ? "" : etc_, "/", name);
  }

  Status FindEtcFile(const char* name) {
    if (found_.etc.contains(name)) return absl::OkStatus();
    const std::string place = EtcPlace(name);
    const bool in_volume =
        std::any_of(found_.volumes.begin(), found_.volumes.end(),
                    [&](const Volume& volume) { return IsBelow(place, volume.path); });
    struct stat info{};
    const bool exists = ::fstatat(root_.fd, place.c_str() + 1, &info, AT_SYMLINK_NOFOLLOW) == 0;
    const bool is_link = exists && S_ISLNK(info.st_mode);
    // The volume has its own, wherever that is.
    if (in_volume && is_link) return absl::OkStatus();
    if (is_link) ::unlinkat(root_.fd, place.c_str() + 1, 0);
    const StatusOr<std::string> found =
        WalkTo(root_, {place, kImageAdvice}, place, {.make = WalkRules::Make::kFile});
    if (found.ok()) {
      found_.etc[name] = place;
    } else if (!in_volume) {
      return found.status();
    }
    return absl::OkStatus();
  }

  const std::string& path_;
  const WalkRoot root_;
  const WantedMounts& wanted_;
  const Links links_;
  std::string etc_;
  std::set<std::string> places_;  // of the class's volumes
  MountPoints found_;
};

// Mounts the root file system over its own snapshot's folder, works in it, and unmounts it. In a
// mount namespace of the calling thread's own, so that nobody sees it and nothing is left if we
// are killed; what the host mounts is seen there, as an automounter has it.
StatusOr<MountPoints> FindMounted(const Mounts& mounts, const std::string& snapshot,
                                  const WantedMounts& wanted) {
  // An image without layers has no overlay.
  const bool overlay = mounts[0].type() == "overlay";
  const std::string place = overlay ? snapshot : mounts[0].source();
  // Relative to the folder of all snapshots: the options of many layers would be longer than a
  // page, which is all that the kernel takes.
  const std::string all = snapshot.substr(0, snapshot.rfind('/'));
  const std::string options =
      absl::StrReplaceAll(absl::StrJoin(mounts[0].options(), ","), {{all + "/", ""}});
  CTR_ASSIGN_OR_RETURN(UniqueFd own_files,
                       OpenFolder(overlay ? OptionOf(mounts, "upperdir") : place));
  const auto mount = [&] {
    return overlay ? ::mount("overlay", place.c_str(), "overlay", 0, options.c_str())
                   : ::mount(place.c_str(), place.c_str(), nullptr, MS_BIND, nullptr);
  };
  if (::unshare(CLONE_NEWNS | CLONE_FS) != 0 ||
      ::mount("", "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0 || ::chdir(all.c_str()) != 0 ||
      mount() != 0) {
    return ErrnoError(errno, "cannot mount the root file system to look at it");
  }
  StatusOr<MountPoints> found = absl::InternalError("");
  {
    StatusOr<UniqueFd> root = OpenFolder(place);
    found = root.ok() ? Finder(place, {root->get(), own_files.get()}, wanted).Run()
                      : StatusOr<MountPoints>(root.status());
  }
  // Here and not with the thread, whose end the kernel clears up later: nobody else may have it
  // mounted when the container gets it.
  if (::umount2(place.c_str(), MNT_DETACH) != 0) {
    return ErrnoError(errno, "cannot unmount the root file system");
  }
  return found;
}

// Whether no layer has a link, or what would give a folder another one's files, where every
// container has something mounted: then neither has what they are merged to, and to mount that
// (some 2 ms) is not worth it.
bool ArePlain(const std::vector<std::string>& layers) {
  const auto is = [](const std::string& path, mode_t type) {
    struct stat info{};
    if (::lstat(path.c_str(), &info) != 0) return errno == ENOENT;
    return (info.st_mode & S_IFMT) == type;
  };
  return std::all_of(layers.begin(), layers.end(), [&](const std::string& layer) {
    for (const char* folder : {"/dev", "/proc", "/sys", "/etc"}) {
      const std::string path = layer + folder;
      if (!is(path, S_IFDIR)) return false;
      if (::lgetxattr(path.c_str(), "trusted.overlay.redirect", nullptr, 0) >= 0) return false;
    }
    for (const char* name : kEtcFiles) {
      if (!is(absl::StrCat(layer, "/etc/", name), S_IFREG)) return false;
    }
    return true;
  });
}

}  // namespace

StatusOr<MountPoints> MakeMountPoints(const Mounts& mounts, const std::vector<std::string>& layers,
                                      const WantedMounts& wanted) {
  if (wanted.image_volumes.empty() && wanted.volumes.empty() && ArePlain(layers)) {
    return MountPoints{.image_volumes = {}, .volumes = {}, .etc = OciSpecInput().etc_paths};
  }
  CTR_ASSIGN_OR_RETURN(std::string snapshot, SnapshotFolder(mounts));
  StatusOr<MountPoints> found = absl::InternalError("");
  std::thread thread([&] { found = FindMounted(mounts, snapshot, wanted); });
  thread.join();
  return found;
}

}  // namespace ctr
