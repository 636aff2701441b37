#include "agent/runtime/containerd/remains.h"

#include <signal.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "agent/base/read_file.h"
#include "agent/runtime/sha256.h"

namespace ctr {
namespace {

namespace fs = std::filesystem;

bool IsBelow(absl::string_view path, absl::string_view folder) {
  return absl::ConsumePrefix(&path, folder) && (path.empty() || path[0] == '/');
}

// The mount points in or below `folder`, the newest first.
StatusOr<std::vector<std::string>> MountsBelow(const std::string& folder) {
  std::vector<std::string> mounts;
  std::string text = ReadFileText("/proc/self/mountinfo");
  // There is always the root. What can't be read must not pass for "nothing is mounted".
  if (text.empty()) return absl::UnavailableError("cannot read the table of mounts");
  for (absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    std::vector<absl::string_view> fields = absl::StrSplit(line, ' ');
    if (fields.size() > 4 && IsBelow(fields[4], folder)) mounts.emplace_back(fields[4]);
  }
  std::reverse(mounts.begin(), mounts.end());
  return mounts;
}

// The word after `flag` on a command line, or "".
std::string ValueOf(const std::vector<std::string>& arguments, absl::string_view flag) {
  auto found = std::find(arguments.begin(), arguments.end(), flag);
  return found == arguments.end() || found + 1 == arguments.end() ? "" : *(found + 1);
}

// Where a private containerd and its runc have a folder for each of our containers.
std::vector<std::string> BundleFolders(const Core& core) {
  if (core.options.external_socket.has_value()) return {};  // its folders are its own
  const ContainerdPaths paths = core.options.Paths();
  const std::string& ours = core.client.containerd_namespace();
  constexpr char kTasks[] = "/io.containerd.runtime.v2.task/";
  return {absl::StrCat(paths.state, kTasks, ours), absl::StrCat(paths.root, kTasks, ours),
          absl::StrCat(paths.runc_root, "/", ours)};
}

// The root file systems of our tasks that are mounted, by container; also in somebody else's
// containerd, whose folders we don't know: the namespace in the path is ours alone.
StatusOr<std::vector<std::pair<std::string, std::string>>> RootfsMounts(const Core& core) {
  const std::string ours =
      absl::StrCat("/io.containerd.runtime.v2.task/", core.client.containerd_namespace(), "/");
  std::vector<std::pair<std::string, std::string>> found;
  CTR_ASSIGN_OR_RETURN(std::vector<std::string> mounts, MountsBelow(""));
  for (std::string& mount : mounts) {
    const size_t at = mount.find(ours);
    if (at == std::string::npos) continue;
    const std::string id(absl::StripSuffix(mount.substr(at + ours.size()), "/rootfs"));
    if (!id.empty() && !absl::StrContains(id, "/")) found.emplace_back(id, std::move(mount));
  }
  return found;
}

// The socket of the task's shim, as containerd names it (runtime/v2/shim/util_unix.go,
// SocketAddress). A shim that was killed leaves it.
std::string ShimSocketOf(const Core& core, const std::string& id) {
  const std::string digest = Sha256Digest(
      absl::StrCat(core.client.socket(), "/", core.client.containerd_namespace(), "/", id));
  return absl::StrCat("/run/containerd/s/", absl::StripPrefix(digest, "sha256:"));
}

}  // namespace

std::vector<Shim> ShimsOf(const std::string& containerd_socket) {
  std::vector<Shim> shims;
  std::error_code error;
  for (fs::directory_iterator it("/proc", error), end; !error && it != end; it.increment(error)) {
    int pid = 0;
    if (!absl::SimpleAtoi(it->path().filename().string(), &pid)) continue;
    StatusOr<Pidfd> process = Pidfd::Open(pid);
    std::vector<std::string> arguments =
        absl::StrSplit(ReadFileText(it->path() / "cmdline"), std::string(1, '\0'));
    if (process.ok() && absl::StrContains(arguments.front(), "containerd-shim-runc-v2") &&
        ValueOf(arguments, "-address") == containerd_socket && !process->HasExited()) {
      shims.push_back({ValueOf(arguments, "-id"), *std::move(process)});
    }
  }
  return shims;
}

Status RemoveFolder(const std::string& folder) {
  CTR_ASSIGN_OR_RETURN(const std::vector<std::string> mounts, MountsBelow(folder));
  for (const std::string& mount : mounts) {
    if (::umount2(mount.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0) {
      return ErrnoError(errno, absl::StrCat("cannot unmount ", mount));
    }
  }
  // What is mounted there in this moment would be emptied. A mount point does not go by rmdir.
  const std::string rootfs = folder + "/rootfs";
  if (::rmdir(rootfs.c_str()) != 0 && errno == EBUSY) {
    return ErrnoError(errno, absl::StrCat("cannot remove ", rootfs));
  }
  std::error_code error;
  fs::remove_all(folder, error);
  if (error) return ErrnoError(error.value(), absl::StrCat("cannot remove ", folder));
  return absl::OkStatus();
}

Status RemoveRemains(const Core& core, const std::string& id) {
  for (const Shim& shim : ShimsOf(core.client.socket())) {
    if (shim.container_id == id) shim.process.Signal(SIGKILL).IgnoreError();
  }
  ::unlink(ShimSocketOf(core, id).c_str());
  Status first = core.cgroups.Remove(core.CgroupPath(id));
  first.Update(core.egress.Detach(id));
  CTR_ASSIGN_OR_RETURN(const auto mounts, RootfsMounts(core));
  for (const auto& [owner, mount] : mounts) {
    if (owner == id && ::umount2(mount.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0) {
      return ErrnoError(errno, absl::StrCat("cannot unmount ", mount));
    }
  }
  for (const std::string& folder : BundleFolders(core)) {
    first.Update(RemoveFolder(absl::StrCat(folder, "/", id)));
  }
  return first;
}

std::vector<std::string> FindRemains(const Core& core) {
  std::set<std::string> found;
  if (!core.options.external_socket.has_value()) {
    for (const Shim& shim : ShimsOf(core.client.socket())) found.insert(shim.container_id);
  }
  if (auto mounts = RootfsMounts(core); mounts.ok()) {
    for (auto& [id, mount] : *mounts) found.insert(id);
  }
  if (auto attached = core.egress.Attached(); attached.ok()) {
    found.insert(attached->begin(), attached->end());
  }
  for (const std::string& folder : BundleFolders(core)) {
    std::error_code error;
    for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
      found.insert(it->path().filename().string());
    }
  }
  return std::vector<std::string>(found.begin(), found.end());
}

}  // namespace ctr
