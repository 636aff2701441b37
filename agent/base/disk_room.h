#pragma once

#include <string>

#include "agent/base/disk_space.h"
#include "agent/base/error.h"

namespace ctr {

// Of the file system that `folder` is on. Blocks shortly.
StatusOr<DiskSpace> SpaceAt(const std::string& folder);

// Of the disk below `folder`, a twentieth is left free by images, or a gigabyte if that is less; of
// its inodes a twentieth, or twenty thousand. RESOURCE_EXHAUSTED (disk_full) once less is free. OK
// if `folder` is "", or can't be looked at.
Status CheckDiskRoom(const std::string& folder);

}  // namespace ctr
