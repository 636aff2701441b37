#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "agent/store/store.h"

namespace ctr::sqlite {

// What was still whole in a damaged state file.
struct Salvaged {
  std::vector<Change> changes;  // that make it again: PutClass, PutInstance, PutCursors
  int classes = 0;
  int instances = 0;
  int64_t last_event = 0;
};

// Every row whose checksum is right. An instance whose observed part alone is not is taken without
// it. Reads from both ends, so that a page that can't be read costs the rows on it; changes nothing
// in the file, and ends within seconds.
Salvaged Salvage(const std::string& path);

}  // namespace ctr::sqlite
