#include "agent/runtime/containerd/image_volumes.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <cerrno>
#include <functional>
#include <thread>

#include "absl/strings/str_cat.h"
#include "agent/base/fd.h"
#include "agent/base/work.h"

namespace ctr {
namespace {

// A folder as the container's processes would find it, within its root file system alone: no link
// leads out of it, or into another mount, which an image could hide that way.
UniqueFd OpenFolder(int root, const std::string& path) {
  open_how how = {};
  how.flags = O_PATH | O_DIRECTORY | O_CLOEXEC;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV;
  return UniqueFd(static_cast<int>(syscall(SYS_openat2, root, path.c_str(), &how, sizeof(how))));
}

Status CannotBe(const std::string& path, int error) {
  return Error(absl::StatusCode::kFailedPrecondition, code::kStartFailed,
               absl::StrCat("the image's VOLUME ", path,
                            " can't be made: ", ErrnoError(error, "").message()));
}

// Makes it, and what it is in, if it is not there. An invalid one lies below another mount.
StatusOr<UniqueFd> MakeFolder(int root, std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  UniqueFd folder = OpenFolder(root, path);
  if (folder.valid() || errno == EXDEV) return folder;
  const size_t slash = path.rfind('/');
  if (errno != ENOENT || path.empty() || path == "/") return CannotBe(path, errno);
  const std::string parent_path = slash == std::string::npos ? "/" : path.substr(0, slash + 1);
  CTR_ASSIGN_OR_RETURN(UniqueFd parent, MakeFolder(root, parent_path));
  if (!parent.valid()) return parent;
  const std::string name = path.substr(slash + 1);  // all of it, if there is none
  if (::mkdirat(parent.get(), name.c_str(), 0755) != 0) return CannotBe(path, errno);
  folder = OpenFolder(root, path);
  if (!folder.valid() && errno != EXDEV) return CannotBe(path, errno);
  return folder;
}

// Below a writable root they are just folders.
Status MakeFolders(const ContainerFiles& container, const std::vector<std::string>& paths) {
  const std::string root_path = absl::StrCat("/proc/", container.process->pid(), "/root");
  UniqueFd root(::open(root_path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  const int error = errno;
  // If it lives now, its pid was its own all the while.
  if (container.process->HasExited()) return absl::NotFoundError("the container has exited");
  if (!root.valid()) return ErrnoError(error, absl::StrCat("cannot open ", root_path));
  for (const std::string& path : paths) {
    CTR_RETURN_IF_ERROR(MakeFolder(root.get(), path).status());
  }
  return absl::OkStatus();
}

Status MountFailed(const char* call) {
  return ErrnoError(errno, absl::StrCat("cannot make the image's volumes writable below a "
                                        "read-only root (Linux 5.12 or later can): ",
                                        call));
}

// Puts a writable mount of the root file system's folder over the read-only one. In the container's
// mount namespace.
Status MountWritable(const std::vector<std::string>& paths) {
  UniqueFd root(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
  UniqueFd writable(::open_tree(AT_FDCWD, "/", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
  if (!root.valid() || !writable.valid()) return MountFailed("open_tree");
  mount_attr attributes = {};
  attributes.attr_clr = MOUNT_ATTR_RDONLY;
  if (::mount_setattr(writable.get(), "", AT_EMPTY_PATH, &attributes, sizeof(attributes)) != 0) {
    return MountFailed("mount_setattr");
  }
  for (const std::string& path : paths) {
    CTR_ASSIGN_OR_RETURN(UniqueFd folder, MakeFolder(writable.get(), path));
    UniqueFd place = OpenFolder(root.get(), path);
    if (!place.valid() && errno == EXDEV) continue;
    if (!place.valid()) return CannotBe(path, errno);
    UniqueFd mount(
        ::open_tree(folder.get(), "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
    if (!mount.valid() || ::move_mount(mount.get(), "", place.get(), "",
                                       MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) != 0) {
      return MountFailed("move_mount");
    }
  }
  return absl::OkStatus();
}

// On a thread of its own, which never comes back out of the namespace.
Status InMountNamespace(int mount_namespace, const std::function<Status()>& body) {
  Status status;
  std::thread thread([&] {
    if (::unshare(CLONE_FS) != 0 || ::setns(mount_namespace, CLONE_NEWNS) != 0) {
      status = ErrnoError(errno, "cannot enter the container's mount namespace");
    } else {
      status = body();
    }
  });
  thread.join();
  return status;
}

}  // namespace

awaitable<Status> OpenImageVolumes(std::shared_ptr<Core> core, ContainerFiles container,
                                   std::vector<std::string> paths, bool read_only) {
  auto files = std::make_shared<const ContainerFiles>(std::move(container));
  co_return co_await OnWork(core->work, [files, paths = std::move(paths), read_only] {
    if (!read_only) return MakeFolders(*files, paths);
    return InMountNamespace(files->mount_namespace.get(), [&] { return MountWritable(paths); });
  });
}

}  // namespace ctr
