#include "agent/base/disk_room.h"

#include <sys/statvfs.h>

#include <algorithm>
#include <cstdint>

namespace ctr {
namespace {

constexpr uint64_t kFreePart = 20;
constexpr uint64_t kFreeBytes = uint64_t{1} << 30;
constexpr uint64_t kFreeInodes = 20000;

}  // namespace

Status CheckDiskRoom(const std::string& folder) {
  struct statvfs disk = {};
  if (folder.empty() || ::statvfs(folder.c_str(), &disk) != 0) return absl::OkStatus();
  const uint64_t unit = disk.f_frsize;
  const bool has_bytes =
      disk.f_bavail * unit >= std::min<uint64_t>(disk.f_blocks * unit / kFreePart, kFreeBytes);
  // Some file systems count no inodes: zero of zero.
  const bool has_inodes =
      disk.f_favail >= std::min<uint64_t>(disk.f_files / kFreePart, kFreeInodes);
  if (has_bytes && has_inodes) return absl::OkStatus();
  return Error(absl::StatusCode::kResourceExhausted, code::kDiskFull,
               "it would fill the disk: it is refused; make room, if it is to be so large");
}

}  // namespace ctr
