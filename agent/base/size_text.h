#pragma once

#include <cstdint>
#include <string>

namespace ctr {

// For people, rounded: "512B", "4.2MiB".
std::string FormatSize(int64_t bytes);

}  // namespace ctr
