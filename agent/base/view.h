#pragma once

#include <string_view>

#include "absl/strings/string_view.h"

namespace ctr {

// Debian's absl is built with a string_view of its own.
inline absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

}  // namespace ctr
