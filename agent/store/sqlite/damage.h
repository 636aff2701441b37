#pragma once

#include <string>

#include "agent/base/error.h"

namespace ctr::sqlite {

// What can be told from the files without SQLite; "" if nothing is wrong with them. An error if
// they can't be read, which is no damage.

// A header that SQLite would not write, or would take for that of a file that can't be written.
StatusOr<std::string> DamageInHeader(const std::string& path);

// A transaction that was committed to the write-ahead log, and that SQLite would silently leave out
// with all that follow it because a checksum is wrong. A log that merely ends early is what a crash
// leaves, and not damage.
StatusOr<std::string> DamageInLog(const std::string& wal_path);

}  // namespace ctr::sqlite
