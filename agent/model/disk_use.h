#pragma once

#include <cstdint>

namespace ctr {

// Of a file system. Files: its inodes; both 0 where it does not count them.
struct DiskSpace {
  int64_t total_bytes = 0;
  int64_t free_bytes = 0;
  int64_t total_files = 0;
  int64_t free_files = 0;
};

// What the files of one container take, beyond those of its image.
struct DiskAmount {
  int64_t bytes = 0;
  int64_t files = 0;
  bool whole = true;  // false: there is more, which could not be counted
};

}  // namespace ctr
