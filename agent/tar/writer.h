#pragma once

#include <string>
#include <string_view>

#include "agent/base/error.h"
#include "agent/tar/bytes.h"
#include "agent/tar/entry.h"

namespace ctr::tar {

// Writes an archive in the POSIX pax format: what does not fit into the old header (long names, big
// files, fractions of a second) is in a record before it. The sink outlives it.
class Writer {
 public:
  explicit Writer(ByteSink* sink) : sink_(sink) {}
  Writer(const Writer&) = delete;

  // A file's content follows: Add calls with entry.size_bytes in all, then the next Begin.
  Status Begin(const Entry& entry);
  Status Add(std::string_view content);
  // The end of the archive, without which it counts as cut off.
  Status Finish();

 private:
  Status AddHeader(const Entry& entry, char type, std::string_view path, std::string_view link);
  Status Append(std::string_view bytes);
  Status Pad();

  ByteSink* const sink_;
  std::string buffer_;
  int64_t unaligned_bytes_ = 0;  // since the last multiple of a block
};

}  // namespace ctr::tar
