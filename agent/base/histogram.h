#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "agent/base/time.h"

namespace ctr {

// Upper bounds of the buckets of durations, in seconds: from a kept connection's answer to a start
// that takes its whole time.
inline constexpr std::array<double, 15> kDurationBounds = {
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30};

// Which bucket a duration falls into; kDurationBounds.size() is that of the longer ones.
inline size_t BucketOf(Duration duration) {
  const double seconds = std::chrono::duration<double>(duration).count();
  size_t bucket = 0;
  while (bucket < kDurationBounds.size() && seconds > kDurationBounds[bucket]) ++bucket;
  return bucket;
}

// Durations, counted by bucket. Not shared by threads.
struct DurationHistogram {
  std::array<uint64_t, kDurationBounds.size() + 1> buckets{};
  double sum_seconds = 0;

  void Add(Duration duration) {
    ++buckets[BucketOf(duration)];
    sum_seconds += std::chrono::duration<double>(duration).count();
  }
};

}  // namespace ctr
