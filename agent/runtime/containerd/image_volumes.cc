#include "agent/runtime/containerd/image_volumes.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <cerrno>
#include <system_error>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "agent/base/fd.h"

namespace ctr {
namespace {

// A folder as the container's processes would find it: no link leads out of the root.
UniqueFd OpenFolder(int root, const std::string& path) {
  open_how how = {};
  how.flags = O_PATH | O_DIRECTORY | O_CLOEXEC;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  return UniqueFd(static_cast<int>(syscall(SYS_openat2, root, path.c_str(), &how, sizeof(how))));
}

Status CannotBe(const std::string& path, int error) {
  return Error(absl::StatusCode::kFailedPrecondition, code::kStartFailed,
               absl::StrCat("the image's VOLUME ", path,
                            " can't be made: ", ErrnoError(error, "").message()));
}

// Where a link in the folder leads, which is not there; "" if it is no link.
std::string TargetOf(int parent, const std::string& parent_path, const std::string& name) {
  char target[PATH_MAX];
  const ssize_t size = ::readlinkat(parent, name.c_str(), target, sizeof(target));
  if (size <= 0) return "";
  const std::string text(target, size);
  return text[0] == '/' ? text : absl::StrCat(parent_path, "/", text);
}

// Opens it, and makes it, and what it is in, if it is not there. `links`: how many may yet lead to
// what is not there.
StatusOr<UniqueFd> MakeFolder(int root, std::string path, int links = 40) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  UniqueFd folder = OpenFolder(root, path);
  if (folder.valid()) return folder;
  if (errno != ENOENT || path.empty() || path == "/") return CannotBe(path, errno);
  const size_t slash = path.rfind('/');
  const std::string parent_path = slash == std::string::npos ? "/" : path.substr(0, slash + 1);
  CTR_ASSIGN_OR_RETURN(UniqueFd parent, MakeFolder(root, parent_path, links));
  const std::string name = path.substr(slash + 1);  // all of it, if there is no slash
  if (::mkdirat(parent.get(), name.c_str(), 0755) != 0) {
    const int error = errno;
    const std::string target = TargetOf(parent.get(), parent_path, name);
    if (error != EEXIST || target.empty() || links == 0) return CannotBe(path, error);
    return MakeFolder(root, target, links - 1);
  }
  folder = OpenFolder(root, path);
  if (!folder.valid()) return CannotBe(path, errno);
  return folder;
}

// Where a descriptor's file is, as the calling thread sees it; "" if that can't be told.
std::string PathOf(int fd) {
  char path[PATH_MAX];
  const ssize_t size =
      ::readlink(absl::StrCat("/proc/thread-self/fd/", fd).c_str(), path, sizeof(path));
  return size > 0 ? std::string(path, size) : "";
}

StatusOr<std::vector<std::string>> MakeFolders(const std::string& root_path,
                                               const std::vector<std::string>& paths) {
  UniqueFd root(::open(root_path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root.valid()) return ErrnoError(errno, absl::StrCat("cannot open ", root_path));
  const std::string prefix = PathOf(root.get());
  std::vector<std::string> made;
  for (const std::string& path : paths) {
    CTR_ASSIGN_OR_RETURN(UniqueFd folder, MakeFolder(root.get(), path));
    const std::string place = PathOf(folder.get());
    if (prefix.empty() || place.compare(0, prefix.size(), prefix) != 0) {
      return absl::InternalError(absl::StrCat("the place of the VOLUME ", path, " is unknown"));
    }
    made.push_back(place.size() == prefix.size() ? "/" : place.substr(prefix.size()));
  }
  return made;
}

// Mounts the root file system over its own snapshot's folder, works in it, and unmounts it. In a
// mount namespace of the calling thread's own, so that nobody sees it and nothing is left if we
// are killed.
StatusOr<std::vector<std::string>> MakeFoldersMounted(const Mounts& mounts,
                                                      const std::string& snapshot,
                                                      const std::vector<std::string>& paths) {
  // Relative to the folder of all snapshots: the options of many layers would be longer than a
  // page, which is all that the kernel takes.
  const std::string all = snapshot.substr(0, snapshot.rfind('/'));
  const std::string options =
      absl::StrReplaceAll(absl::StrJoin(mounts[0].options(), ","), {{all + "/", ""}});
  const std::string place = snapshot.substr(all.size() + 1);
  if (::unshare(CLONE_NEWNS | CLONE_FS) != 0 ||
      ::mount("", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 || ::chdir(all.c_str()) != 0 ||
      ::mount("overlay", place.c_str(), mounts[0].type().c_str(), 0, options.c_str()) != 0) {
    return ErrnoError(errno, "cannot mount the root file system for the image's volumes");
  }
  StatusOr<std::vector<std::string>> made = MakeFolders(place, paths);
  // Here and not with the thread, whose end the kernel clears up later: nobody else may have it
  // mounted when the container gets it.
  if (::umount2(place.c_str(), 0) != 0) return ErrnoError(errno, "cannot unmount the volumes");
  return made;
}

}  // namespace

StatusOr<std::vector<std::string>> MakeImageVolumes(const Mounts& mounts,
                                                    const std::vector<std::string>& paths) {
  if (paths.empty()) return std::vector<std::string>();
  CTR_ASSIGN_OR_RETURN(std::string snapshot, SnapshotFolder(mounts));
  // An image without layers has no overlay.
  if (mounts[0].type() != "overlay") return MakeFolders(mounts[0].source(), paths);
  StatusOr<std::vector<std::string>> made = absl::InternalError("");
  std::thread thread([&] { made = MakeFoldersMounted(mounts, snapshot, paths); });
  thread.join();
  return made;
}

}  // namespace ctr
