#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "agent/base/error.h"
#include "agent/base/time.h"

namespace ctr::cli {

// Reads what `--since` takes: a duration before `now` ("10m", "2h", a number of seconds), or a time
// as RFC 3339 writes it ("2026-11-25T09:40:12Z", also with a fraction or another zone). Unix
// milliseconds, at least 1. INVALID_ARGUMENT names the flag.
StatusOr<int64_t> ParseSince(const std::string& text, WallTime now);

// A time as RFC 3339 writes it, in Unix milliseconds.
std::optional<int64_t> ParseTime(absl::string_view text);

}  // namespace ctr::cli
