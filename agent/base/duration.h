#pragma once

#include <string>
#include <string_view>

#include "agent/base/error.h"
#include "agent/base/time.h"

namespace ctr {

// Reads a Go-style duration ("30s", "1h30m", "250ms", "1.5m") or a plain number of seconds ("90",
// "0.5"). Negative, empty, unit-less compound or overflowing (over 100 years) text is
// INVALID_ARGUMENT with a message that shows the form.
StatusOr<Duration> ParseDuration(std::string_view text);

// The shortest Go-style text that ParseDuration reads back as the same, in whole units down to
// "ns": "1h30m", "250ms", "0s".
std::string FormatDuration(Duration duration);

}  // namespace ctr
