#pragma once

#include <cstdint>

#include "agent/base/disk_space.h"

namespace ctr {

// What the files of one container take, beyond those of its image.
struct DiskAmount {
  int64_t bytes = 0;
  int64_t files = 0;
  bool whole = true;  // false: there is more, which could not be counted
};

}  // namespace ctr
