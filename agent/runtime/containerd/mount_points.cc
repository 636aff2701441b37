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

#include "absl/strings/match.h"
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

constexpr char kAdvice[] =
    "choose another `path` in the class, change the image, or destroy the instance if it has made "
    "that";

Status CannotBe(absl::string_view what, absl::string_view why) {
  return Error(absl::StatusCode::kFailedPrecondition, code::kStartFailed,
               absl::StrCat(what, " can't be made: ", why));
}

WalkTarget TargetOf(const Volume& volume) {
  return {absl::StrCat("the volume ", volume.path), kAdvice};
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
    for (const std::string& volume : wanted_.image_volumes) {
      const WalkTarget target = {absl::StrCat("the image's VOLUME ", volume), "change the image"};
      CTR_ASSIGN_OR_RETURN(std::string place, WalkToFolder(root_, target, volume, links_));
      found_.image_volumes.push_back(std::move(place));
    }
    const WalkTarget etc = {"/etc", "change the image"};
    CTR_ASSIGN_OR_RETURN(etc_, WalkToFolder(root_, etc, "/etc", links_));
    if (const std::string why = WhyNoVolume(etc_ + "/hosts"); !why.empty()) {
      return CannotBe("/etc", absl::StrCat("it leads to ", etc_, ", and ", why));
    }
    CTR_RETURN_IF_ERROR(FindVolumes());
    for (const Volume& volume : found_.volumes) CTR_RETURN_IF_ERROR(MountVolume(volume));
    for (const char* name : {kHostsFile, kHostnameFile, kResolvConfFile}) {
      CTR_RETURN_IF_ERROR(FindEtcFile(name));
    }
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

  // By the root file system's own links; then each is looked at once more where the others are
  // mounted.
  Status FindVolumes() {
    if (wanted_.volumes.empty()) return absl::OkStatus();
    // What the container has there is new, too.
    CTR_RETURN_IF_ERROR(Mount("tmpfs", "/dev", "tmpfs", 0, "size=64k"));
    std::set<std::string> places;
    for (const Volume& volume : wanted_.volumes) {
      CTR_ASSIGN_OR_RETURN(std::string place, Find(volume, volume.path, links_));
      if (const std::string why = WhyNoVolume(place); !why.empty()) {
        return CannotBe(TargetOf(volume).what,
                        absl::StrCat("links lead it to ", place, ", and ", why, ": ", kAdvice));
      }
      if (!places.insert(place).second) {
        return CannotBe(TargetOf(volume).what, absl::StrCat("links lead it to ", place,
                                                            ", where another one is: ", kAdvice));
      }
      if (volume.path == absl::StrCat("/etc/", kHostsFile)) found_.etc[kHostsFile] = place;
      if (volume.path == absl::StrCat("/etc/", kHostnameFile)) found_.etc[kHostnameFile] = place;
      if (volume.path == absl::StrCat("/etc/", kResolvConfFile)) {
        found_.etc[kResolvConfFile] = place;
      }
      found_.volumes.push_back(volume);
      found_.volumes.back().path = std::move(place);
    }
    std::sort(found_.volumes.begin(), found_.volumes.end(),
              [](const Volume& a, const Volume& b) { return a.path < b.path; });
    return absl::OkStatus();
  }

  StatusOr<std::string> Find(const Volume& volume, const std::string& path, Links links) const {
    struct stat info{};
    if (!volume.host.empty() && ::stat(volume.host.c_str(), &info) != 0) {
      return CannotBe(TargetOf(volume).what, std::generic_category().message(errno));
    }
    const bool file = !volume.host.empty() && !S_ISDIR(info.st_mode);
    return file ? WalkToFile(root_, TargetOf(volume), path, links)
                : WalkToFolder(root_, TargetOf(volume), path, links);
  }

  // For what will be inside it.
  Status MountVolume(const Volume& volume) const {
    CTR_RETURN_IF_ERROR(Find(volume, volume.path, Links::kNone).status());
    if (volume.host.empty()) return Mount("tmpfs", volume.path, "tmpfs", 0, "size=64k");
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

  Status FindEtcFile(const char* name) {
    if (found_.etc.contains(name)) return absl::OkStatus();
    const std::string place = absl::StrCat(etc_ == "/" ? "" : etc_, "/", name);
    const bool in_volume =
        std::any_of(found_.volumes.begin(), found_.volumes.end(), [&](const Volume& volume) {
          return place == volume.path || absl::StartsWith(place, volume.path + "/");
        });
    struct stat info{};
    const bool exists = ::fstatat(root_.fd, place.c_str() + 1, &info, AT_SYMLINK_NOFOLLOW) == 0;
    const bool is_link = exists && S_ISLNK(info.st_mode);
    // The volume has its own, wherever that is.
    if (in_volume && is_link) return absl::OkStatus();
    if (is_link) ::unlinkat(root_.fd, place.c_str() + 1, 0);
    const WalkTarget target = {place, "change the image"};
    const StatusOr<std::string> found = WalkToFile(root_, target, place, Links::kNone);
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
  MountPoints found_;
};

// Mounts the root file system over its own snapshot's folder, works in it, and unmounts it. In a
// mount namespace of the calling thread's own, so that nobody sees it and nothing is left if we
// are killed.
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
      ::mount("", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 || ::chdir(all.c_str()) != 0 ||
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
    for (const char* name : {kHostsFile, kHostnameFile, kResolvConfFile}) {
      if (!is(absl::StrCat(layer, "/etc/", name), S_IFREG)) return false;
    }
    return true;
  });
}

// "\040" is a space: so the kernel writes what would end a field.
std::string Unescaped(absl::string_view field) {
  std::string text;
  for (size_t i = 0; i < field.size(); ++i) {
    if (field[i] != '\\' || i + 3 >= field.size()) {
      text.push_back(field[i]);
      continue;
    }
    text.push_back(static_cast<char>((field[i + 1] - '0') * 64 + (field[i + 2] - '0') * 8 +
                                     (field[i + 3] - '0')));
    i += 3;
  }
  return text;
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

Status CheckMountPoints(const std::string& mountinfo, const std::vector<std::string>& paths) {
  std::set<std::string> there;
  for (absl::string_view line : absl::StrSplit(mountinfo, '\n')) {
    const std::vector<absl::string_view> fields = absl::StrSplit(line, ' ');
    if (fields.size() > 4) there.insert(Unescaped(fields[4]));
  }
  for (const std::string& path : paths) {
    if (there.contains(path)) continue;
    return CannotBe(path, "a link has led it elsewhere while the instance was made");
  }
  return absl::OkStatus();
}

}  // namespace ctr
