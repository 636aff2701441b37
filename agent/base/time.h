#pragma once

#include <chrono>

namespace ctr {

// Intervals are measured on the monotonic clock; the wall clock is only shown and stored.
using Duration = std::chrono::nanoseconds;
using MonoTime = std::chrono::steady_clock::time_point;
using WallTime = std::chrono::system_clock::time_point;

}  // namespace ctr
