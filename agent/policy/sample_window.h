#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <utility>
#include <vector>

#include "agent/base/time.h"

namespace ctr::policy {

// What a second is to the windows below: a whole number, so that times within it are the same.
int64_t SecondOf(MonoTime time);

// Sums of samples by the second they were taken in, over the last `window`, and their average:
// Knative's TimedFloat64Buckets with a granularity of one second (knative/serving,
// pkg/autoscaler/aggregation/bucketing.go). A value; one thread.
//
// While less than a window has passed since the first sample, the average is over the seconds since
// then; seconds since the newest sample do not count; a gap between samples counts as zeros. After
// a whole window without a sample it begins anew.
class WindowAverage {
 public:
  explicit WindowAverage(Duration window);

  // Adds to what the second of `at` has. A sample from before the window is ignored.
  void Record(MonoTime at, double value);

  double Average(MonoTime now) const;

  // No sample within the window.
  bool IsEmpty(MonoTime now) const;

  // Keeps what fits into the new window.
  void Resize(Duration window, MonoTime now);

  Duration window() const { return std::chrono::seconds(buckets_.size()); }

 private:
  int64_t Size() const { return static_cast<int64_t>(buckets_.size()); }
  double& At(int64_t second);
  double At(int64_t second) const;

  std::vector<double> buckets_;  // a ring: second s is at s mod size
  double total_ = 0;             // of buckets_
  std::optional<int64_t> first_;
  std::optional<int64_t> last_;
};

// The greatest of the values recorded within a duration, in steps of `granularity`: Knative's
// max.TimeWindow (pkg/autoscaler/aggregation/max). A value; one thread.
class WindowMax {
 public:
  WindowMax(Duration window, Duration granularity);

  // The maximum with this value. A clock that goes backwards counts as standing still.
  int Record(MonoTime at, int value);

 private:
  Duration granularity_;
  int64_t size_;
  std::deque<std::pair<int64_t, int>> maxima_;  // (step, value), values descending
};

}  // namespace ctr::policy
