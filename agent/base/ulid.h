#pragma once

#include <string>

#include "agent/base/time.h"

namespace ctr {

// A fresh ULID (github.com/ulid/spec) in lower case: 48 bits of `now` in milliseconds, then 80
// random bits, as 26 characters of Crockford's base 32. Valid as a containerd ID. Any thread.
std::string NewUlid(WallTime now);

}  // namespace ctr
