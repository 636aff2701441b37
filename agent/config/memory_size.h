#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "agent/base/error.h"

namespace ctr {

// Bytes of "256MiB", "512m", "1.5GB" or "1048576", as docker reads them: every unit is a power of
// 1,024. INVALID_ARGUMENT with a message that shows the form.
StatusOr<int64_t> ParseMemorySize(std::string_view text);

// The shortest text that ParseMemorySize reads back as the same: "256MiB", "1000B".
std::string FormatMemorySize(int64_t bytes);

}  // namespace ctr
