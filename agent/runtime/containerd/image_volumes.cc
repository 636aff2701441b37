#include "agent/runtime/containerd/image_volumes.h"

#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <cerrno>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "agent/base/fd.h"
#include "agent/runtime/containerd/layers.h"

namespace ctr {
namespace {

Status CannotBe(const std::string& path, absl::string_view why) {
  return Error(absl::StatusCode::kFailedPrecondition, code::kStartFailed,
               absl::StrCat("the image's VOLUME ", path, " can't be made: ", why));
}

Status CannotBe(const std::string& path, int error) {
  return CannotBe(path, ErrnoError(error, "").message());
}

struct Root {
  int fd;
  int own_files;  // what in it is not the image's: no link that is there counts; -1: all do
};

// One VOLUME's way through the root file system, a component at a time: no link leads out of it,
// and how far the image sends us is bounded. Nobody else uses it meanwhile.
class Walk {
 public:
  Walk(Root root, const std::string& path) : root_(root), path_(path) { Prepend(path); }

  // Makes what is missing, and gives the place, which has no links in it: "/" or "/var/lib".
  StatusOr<std::string> Run() {
    CTR_RETURN_IF_ERROR(Return());
    for (int components = 0; !rest_.empty(); ++components) {
      if (components == kMaxComponents) return CannotBe(path_, "it leads through too many folders");
      const std::string name = std::move(rest_.back());
      rest_.pop_back();
      CTR_RETURN_IF_ERROR(name == ".." ? Leave() : Enter(name));
    }
    return absl::StrCat("/", absl::StrJoin(place_, "/"));
  }

 private:
  void Prepend(const std::string& path) {
    std::vector<std::string> names = absl::StrSplit(path, '/', absl::SkipEmpty());
    std::erase(names, ".");
    rest_.insert(rest_.end(), names.rbegin(), names.rend());
  }

  Status Open(int parent, const char* name) {
    UniqueFd opened(::openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
    if (!opened.valid()) return CannotBe(path_, errno);
    folder_ = std::move(opened);
    return absl::OkStatus();
  }

  Status Return() {
    place_.clear();
    return Open(root_.fd, ".");
  }

  Status Leave() {
    if (place_.empty()) return absl::OkStatus();  // above the root is the root
    place_.pop_back();
    return Open(folder_.get(), "..");
  }

  Status Enter(const std::string& name) {
    struct stat info{};
    if (::fstatat(folder_.get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno != ENOENT || ::mkdirat(folder_.get(), name.c_str(), 0755) != 0) {
        return CannotBe(path_, errno);
      }
    } else if (S_ISLNK(info.st_mode)) {
      return Follow(name);
    } else if (!S_ISDIR(info.st_mode)) {
      return CannotBe(path_, ENOTDIR);
    }
    place_.push_back(name);
    return Open(folder_.get(), name.c_str());
  }

  Status Follow(const std::string& name) {
    const std::string link = absl::StrJoin(place_, "/") + (place_.empty() ? "" : "/") + name;
    struct stat info{};
    if (root_.own_files >= 0 &&
        ::fstatat(root_.own_files, link.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0) {
      return CannotBe(path_, absl::StrCat("the instance has made the link /", link,
                                          ", which may not lead a part of a read-only root "
                                          "elsewhere: destroy it, or set read_only = false"));
    }
    if (++links_ > kMaxLinks) return CannotBe(path_, ELOOP);
    char target[PATH_MAX];
    const ssize_t size = ::readlinkat(folder_.get(), name.c_str(), target, sizeof(target));
    if (size <= 0) return CannotBe(path_, errno);
    const std::string text(target, size);
    Prepend(text);
    return text[0] == '/' ? Return() : absl::OkStatus();
  }

  const Root root_;
  const std::string& path_;
  std::vector<std::string> rest_;   // the next component last
  std::vector<std::string> place_;  // where we are
  UniqueFd folder_;                 // the same
  int links_ = 0;
};

StatusOr<std::vector<std::string>> MakeFolders(Root root, const std::vector<std::string>& paths) {
  std::vector<std::string> made;
  for (const std::string& path : paths) {
    CTR_ASSIGN_OR_RETURN(std::string place, Walk(root, path).Run());
    made.push_back(std::move(place));
  }
  return made;
}

StatusOr<UniqueFd> OpenFolder(const std::string& path) {
  UniqueFd folder(::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!folder.valid()) return ErrnoError(errno, absl::StrCat("cannot open ", path));
  return folder;
}

// Mounts the root file system over its own snapshot's folder, works in it, and unmounts it. In a
// mount namespace of the calling thread's own, so that nobody sees it and nothing is left if we
// are killed.
StatusOr<std::vector<std::string>> MakeFoldersMounted(const Mounts& mounts,
                                                      const std::string& snapshot,
                                                      const std::vector<std::string>& paths,
                                                      Links links) {
  // Relative to the folder of all snapshots: the options of many layers would be longer than a
  // page, which is all that the kernel takes.
  const std::string all = snapshot.substr(0, snapshot.rfind('/'));
  const std::string options =
      absl::StrReplaceAll(absl::StrJoin(mounts[0].options(), ","), {{all + "/", ""}});
  const std::string place = snapshot.substr(all.size() + 1);
  CTR_ASSIGN_OR_RETURN(UniqueFd upper, OpenFolder(OptionOf(mounts, "upperdir")));
  if (::unshare(CLONE_NEWNS | CLONE_FS) != 0 ||
      ::mount("", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 || ::chdir(all.c_str()) != 0 ||
      ::mount("overlay", place.c_str(), mounts[0].type().c_str(), 0, options.c_str()) != 0) {
    return ErrnoError(errno, "cannot mount the root file system for the image's volumes");
  }
  StatusOr<std::vector<std::string>> made = absl::InternalError("");
  {
    StatusOr<UniqueFd> root = OpenFolder(place);
    made = root.ok() ? MakeFolders({root->get(), links == Links::kAll ? -1 : upper.get()}, paths)
                     : root.status();
  }
  // Here and not with the thread, whose end the kernel clears up later: nobody else may have it
  // mounted when the container gets it.
  if (::umount2(place.c_str(), 0) != 0) return ErrnoError(errno, "cannot unmount the volumes");
  return made;
}

}  // namespace

StatusOr<std::vector<std::string>> MakeImageVolumes(const Mounts& mounts,
                                                    const std::vector<std::string>& paths,
                                                    Links links) {
  if (paths.empty()) return std::vector<std::string>();
  CTR_ASSIGN_OR_RETURN(std::string snapshot, SnapshotFolder(mounts));
  // An image without layers has no overlay.
  if (mounts[0].type() != "overlay") {
    CTR_ASSIGN_OR_RETURN(UniqueFd root, OpenFolder(mounts[0].source()));
    return MakeFolders({root.get(), links == Links::kAll ? -1 : root.get()}, paths);
  }
  StatusOr<std::vector<std::string>> made = absl::InternalError("");
  std::thread thread([&] { made = MakeFoldersMounted(mounts, snapshot, paths, links); });
  thread.join();
  return made;
}

}  // namespace ctr
