#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "agent/base/error.h"

// Project quotas: what the kernel lets the files below a directory take, on file systems that have
// them (ext4 with the feature `project`, mounted with `prjquota`; XFS with `pquota`). See
// quotactl_fd(2) and FS_IOC_FSSETXATTR in linux/fs.h. Each of these blocks shortly.
namespace ctr {

// OK if the file system of `folder` enforces them.
Status CheckProjectQuotas(const std::string& folder);

// Limits a snapshot, the directory `folder` of its own with those right below it; none: no limit.
// Its project is made of `salt`, of whoever asks, and of the snapshot's number: what the files say
// their project is, their owner can change. One that was used before it became a project stays
// without a limit: its older files would not count, and could not be renamed. OK as well where it
// gets none, for that reason or as the file system has no project quotas.
Status LimitSnapshot(const std::string& folder, const std::string& salt,
                     std::optional<int64_t> bytes);

struct ProjectUse {
  int64_t bytes = 0;
  int64_t files = 0;
};
// What a snapshot with a project takes; nothing if it has none.
std::optional<ProjectUse> UseOfSnapshot(const std::string& folder, const std::string& salt);

}  // namespace ctr
