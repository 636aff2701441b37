#include "agent/base/disk_room.h"

#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>

namespace ctr {
namespace {

constexpr int64_t kFreePart = 20;
constexpr int64_t kFreeBytes = int64_t{1} << 30;
constexpr int64_t kFreeInodes = 20000;

}  // namespace

StatusOr<DiskSpace> SpaceAt(const std::string& folder) {
  struct statvfs info = {};
  if (::statvfs(folder.c_str(), &info) != 0) return ErrnoError(errno, "cannot look at " + folder);
  const auto block = static_cast<int64_t>(info.f_frsize);
  return DiskSpace{.total_bytes = static_cast<int64_t>(info.f_blocks) * block,
                   .free_bytes = static_cast<int64_t>(info.f_bavail) * block,
                   .total_files = static_cast<int64_t>(info.f_files),
                   .free_files = static_cast<int64_t>(info.f_favail)};
}

Status CheckDiskRoom(const std::string& folder) {
  const StatusOr<DiskSpace> disk = SpaceAt(folder);
  if (!disk.ok()) return absl::OkStatus();
  const bool has_bytes = disk->free_bytes >= std::min(disk->total_bytes / kFreePart, kFreeBytes);
  const bool has_inodes = disk->free_files >= std::min(disk->total_files / kFreePart, kFreeInodes);
  if (has_bytes && has_inodes) return absl::OkStatus();
  return Error(absl::StatusCode::kResourceExhausted, code::kDiskFull,
               "it would fill the disk: it is refused; make room, if it is to be so large");
}

}  // namespace ctr
