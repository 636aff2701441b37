#pragma once

#include <cstdint>
#include <string>

#include "agent/base/error.h"
#include "agent/tar/bytes.h"
#include "agent/tar/open.h"

namespace ctr::tar {

// What a copy has done.
struct Totals {
  int64_t entries = 0;
  int64_t bytes = 0;     // of files' contents
  int64_t left_out = 0;  // sockets, FIFOs and devices
  std::string first_left_out;
};

struct PackOptions {
  std::string path;
  bool follow_link = false;  // if the path itself is a symlink: what it points to
};

// Writes what is at the path as an archive, directories with all below them. The first entry has
// the path's last name, or "." if the path stands for a directory's contents (it ends with "/."),
// and all others are below it. Symlinks are kept as they are. Errors: NOT_FOUND, what the system
// says of a path, ABORTED if a file shrinks meanwhile; of the sink. Blocks.
StatusOr<Totals> Pack(const PackOptions& options, const OwnDescriptors& own, ByteSink* sink);

}  // namespace ctr::tar
