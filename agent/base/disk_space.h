#pragma once

#include <cstdint>

namespace ctr {

// Of a file system. Files: its inodes; both 0 where it does not count them.
struct DiskSpace {
  int64_t total_bytes = 0;
  int64_t free_bytes = 0;  // for us
  int64_t total_files = 0;
  int64_t free_files = 0;
};

}  // namespace ctr
