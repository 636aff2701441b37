#pragma once

#include <optional>
#include <string>
#include <vector>

#include "agent/base/error.h"
#include "agent/tar/bytes.h"
#include "agent/tar/entry.h"

namespace ctr::tar {

// Reads an archive that anybody may have made: ustar, pax and GNU's long names. What it can't
// represent (sparse files) and what is damaged or cut off is INVALID_ARGUMENT. The source outlives
// it.
class Reader {
 public:
  explicit Reader(ByteSource* source);
  Reader(const Reader&) = delete;

  // The next entry; nothing at the end of the archive. What was not read of the last one's content
  // is passed over.
  StatusOr<std::optional<Entry>> Next();
  // Up to `size` bytes of the entry's content; 0 at its end.
  StatusOr<size_t> Read(char* buffer, size_t size);
  // After the end: reads whatever the source still has, so that its writer is not cut off.
  Status Drain();

 private:
  // What records before an entry say of it, over its header.
  struct Overrides {
    std::optional<std::string> path;
    std::optional<std::string> link;
    std::optional<int64_t> size_bytes;
    std::optional<int64_t> uid;
    std::optional<int64_t> gid;
    std::optional<timespec> mtime;
  };

  Status ReadExactly(char* buffer, size_t size);
  Status Skip(int64_t size_bytes);
  StatusOr<std::string> ReadSmall(int64_t size_bytes);
  Status Apply(const std::string& records, Overrides* overrides) const;

  ByteSource* const source_;
  std::vector<char> buffer_;
  size_t begin_ = 0;  // of what is read but not used
  size_t end_ = 0;
  int64_t left_bytes_ = 0;  // of the entry's content
  int64_t padding_bytes_ = 0;
  bool ended_ = false;
};

}  // namespace ctr::tar
