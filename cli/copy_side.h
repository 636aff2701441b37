#pragma once

#include <string>
#include <string_view>

#include "agent/base/error.h"

namespace ctr::cli {

// One side of a copy.
struct CopySide {
  std::string instance;  // ID or CLASS/ID; "": the path is here
  std::string path;
};

// Reads `PATH`, `ID:PATH` or `CLASS/ID:PATH`; what begins with a slash or a dot is a path.
StatusOr<CopySide> ParseCopySide(std::string_view text);

}  // namespace ctr::cli
