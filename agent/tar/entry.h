#pragma once

#include <sys/types.h>
#include <time.h>

#include <cstdint>
#include <string>

namespace ctr::tar {

enum class EntryType { kFile, kHardLink, kSymlink, kDirectory, kOther };

// What an archive says of one file. Its content follows in the archive.
struct Entry {
  std::string path;  // as written: not checked
  EntryType type = EntryType::kFile;
  mode_t mode = 0;  // permission bits alone
  uint32_t uid = 0;
  uint32_t gid = 0;
  int64_t size_bytes = 0;  // of a file's content
  timespec mtime = {};
  std::string link;  // a symlink's text; a hard link's other path
};

}  // namespace ctr::tar
