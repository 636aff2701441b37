#pragma once

#include <algorithm>

#include "agent/base/time.h"

namespace ctr {

// The longest wait that the other side is granted. Who asks for more is not asked again: nobody
// sits there for an hour, and before it is over each attempt counts against whom it was to spare.
inline constexpr Duration kMostAskedWait = std::chrono::seconds(30);

// How long to wait before what failed `failures` times in a row (1 or more) is tried again: 200 ms,
// then twice as long each time, 10 s at most, times `jitter` out of [0.5, 1]; or as long as the
// other side asked for, kMostAskedWait at most.
inline Duration PullBackoff(int failures, double jitter, Duration asked = Duration::zero()) {
  constexpr Duration kFirst = std::chrono::milliseconds(200);
  constexpr Duration kMost = std::chrono::seconds(10);
  const Duration full = std::min<Duration>(kMost, kFirst * (1 << std::clamp(failures - 1, 0, 10)));
  const auto backoff = std::chrono::duration_cast<Duration>(full * std::clamp(jitter, 0.5, 1.0));
  return std::max(backoff, std::min(asked, kMostAskedWait));
}

}  // namespace ctr
