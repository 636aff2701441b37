#include "agent/base/project_quota.h"

#include <fcntl.h>
#include <linux/dqblk_xfs.h>
#include <linux/fs.h>
#include <linux/quota.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <functional>
#include <system_error>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "agent/base/fd.h"

namespace ctr {
namespace {

constexpr int64_t kQuotaBlock = 1024;  // QIF_DQBLKSIZE
// A project's ID is 32 bits: snapshots' numbers go round in the lower digits, and agents that share
// a file system are told apart by the upper ones. 0 is nobody's.
constexpr uint32_t kNumbers = 1'000'000;
constexpr uint32_t kAgents = 4'000;

int QuotaCall(int fd, unsigned command, uint32_t project, void* argument) {
  return static_cast<int>(
      ::syscall(SYS_quotactl_fd, fd, QCMD(command, PRJQUOTA), project, argument));
}

UniqueFd OpenFolder(const std::string& path) {
  return UniqueFd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
}

bool Enforces(int fd) {
  fs_quota_stat state = {};
  state.qs_version = FS_QSTAT_VERSION;
  return QuotaCall(fd, Q_XGETQSTAT, 0, &state) == 0 && (state.qs_flags & FS_QUOTA_PDQ_ENFD) != 0;
}

std::optional<uint32_t> ProjectOf(const std::string& folder, const std::string& salt) {
  uint32_t number = 0;
  if (!absl::SimpleAtoi(folder.substr(folder.rfind('/') + 1), &number)) return std::nullopt;
  const auto agent = static_cast<uint32_t>(std::hash<std::string>()(salt) % kAgents);
  return (agent + 1) * kNumbers + number % kNumbers;
}

// All that is made below it belongs to the project, too.
Status Mark(const UniqueFd& folder, const std::string& path, uint32_t project) {
  fsxattr attributes = {};
  if (::ioctl(folder.get(), FS_IOC_FSGETXATTR, &attributes) == 0) {
    attributes.fsx_projid = project;
    attributes.fsx_xflags |= FS_XFLAG_PROJINHERIT;
    if (::ioctl(folder.get(), FS_IOC_FSSETXATTR, &attributes) == 0) return absl::OkStatus();
  }
  return ErrnoError(errno, absl::StrCat("cannot make ", path, " a project"));
}

uint32_t MarkOf(const UniqueFd& folder) {
  fsxattr attributes = {};
  const bool read = ::ioctl(folder.get(), FS_IOC_FSGETXATTR, &attributes) == 0;
  return read && (attributes.fsx_xflags & FS_XFLAG_PROJINHERIT) != 0 ? attributes.fsx_projid : 0;
}

}  // namespace

Status CheckProjectQuotas(const std::string& folder) {
  const UniqueFd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd.valid() && Enforces(fd.get())) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("the file system of ", folder, " enforces no project quotas"));
}

Status LimitSnapshot(const std::string& folder, const std::string& salt,
                     std::optional<int64_t> bytes) {
  const UniqueFd fd = OpenFolder(folder);
  if (!fd.valid() || !Enforces(fd.get())) return absl::OkStatus();
  const std::optional<uint32_t> project = ProjectOf(folder, salt);
  std::error_code error;
  const bool is_new = std::filesystem::is_empty(folder + "/fs", error);
  if (!project || (!is_new && MarkOf(fd) != project)) return absl::OkStatus();
  CTR_RETURN_IF_ERROR(Mark(fd, folder, *project));
  // The container's root belongs to it, mark and all. Overlayfs makes files in `work`, and renames
  // them to where they belong: within one project.
  for (const char* name : {"/fs", "/work"}) {
    const UniqueFd below = OpenFolder(folder + name);
    if (below.valid()) CTR_RETURN_IF_ERROR(Mark(below, folder + name, *project));
  }
  if_dqblk limit = {};
  limit.dqb_bhardlimit = static_cast<uint64_t>(bytes.value_or(0) + kQuotaBlock - 1) / kQuotaBlock;
  limit.dqb_valid = QIF_BLIMITS;
  if (QuotaCall(fd.get(), Q_SETQUOTA, *project, &limit) == 0) return absl::OkStatus();
  return ErrnoError(errno, absl::StrCat("cannot limit ", folder));
}

std::optional<ProjectUse> UseOfSnapshot(const std::string& folder, const std::string& salt) {
  const UniqueFd fd = OpenFolder(folder);
  const std::optional<uint32_t> project = ProjectOf(folder, salt);
  if (!fd.valid() || !project || MarkOf(fd) != project) return std::nullopt;
  if_dqblk use = {};
  if (QuotaCall(fd.get(), Q_GETQUOTA, *project, &use) != 0) return std::nullopt;
  return ProjectUse{.bytes = static_cast<int64_t>(use.dqb_curspace),
                    .files = static_cast<int64_t>(use.dqb_curinodes)};
}

}  // namespace ctr
