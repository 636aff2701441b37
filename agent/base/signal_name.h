#pragma once

#include <optional>
#include <string_view>

namespace ctr {

// The number of a signal written as docker takes it: "SIGTERM", "TERM", "15", "SIGRTMIN+3", in any
// case. Nothing for what is no signal.
std::optional<int> ParseSignal(std::string_view text);

}  // namespace ctr
