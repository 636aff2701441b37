#pragma once

#include <optional>

#include "agent/base/time.h"
#include "agent/policy/sample_window.h"

namespace ctr::policy {

// The knobs of Knative's KPA and their defaults (knative/serving, pkg/autoscaler/config/config.go).
struct TrafficConfig {
  enum class Metric { kConcurrency, kRps } metric = Metric::kConcurrency;
  double target = 50;               // of one instance: requests in flight, or a second
  double target_utilization = 0.7;  // the part of the target to steer for
  Duration window = std::chrono::seconds(60);
  double panic_window_percentage = 10;  // of the window
  double panic_threshold = 200;         // percent of what the ready instances are for
  double max_scale_up_rate = 1000;      // at most ready * this at a time
  double max_scale_down_rate = 2;       // at least ready / this
  int activation_scale = 1;             // if any, at least as many
  Duration scale_down_delay = Duration::zero();
  bool reachable = true;  // else it may go down at any rate, undelayed
};

// The value to steer for: target * target_utilization, and 0.01 at least, as in Knative.
double SteeredTarget(const TrafficConfig& config);
// The panic window: the percentage of the window in whole seconds, one at least, as in Knative.
Duration PanicWindow(const TrafficConfig& config);

// What the data plane of a class saw in one interval, which ends at `at`.
struct TrafficSample {
  MonoTime at;
  double concurrency = 0;  // averaged over the interval; requests that wait for an instance count
  double rps = 0;          // requests that came, by the second
  Duration interval = std::chrono::seconds(1);
};

struct TrafficWish {
  bool valid = false;  // without data for a whole window there is no wish: hold
  int wish = 0;
  double stable = 0;                  // average over the window
  double panic = 0;                   // average over the panic window
  double target = 0;                  // of one instance, utilization taken off
  std::optional<Duration> panicking;  // in panic mode, for how long
  bool rate_limited = false;          // the load asks for more or fewer than the rates allow
  bool held = false;  // fewer would do, but in panic, or before the delay is over, none goes
};

// Knative's KPA to the letter (knative/serving, pkg/autoscaler/scaling/autoscaler.go, and
// pkg/autoscaler/metrics/collector.go for the windows): how many instances the traffic of a class
// wants. min, max and the way to zero are not its business. A value; one thread.
class TrafficScaler {
 public:
  // With more than one instance ready it starts in panic, as Knative does, so as not to go below
  // their number before there is a window of data.
  TrafficScaler(const TrafficConfig& config, int ready, MonoTime now);

  // Counts from now on; what the windows hold is kept.
  void Configure(const TrafficConfig& config, MonoTime now);

  // Samples of a second are recorded as Knative does; a longer interval fills the seconds it
  // covers, a shorter one its part of one. False, and nothing is recorded, for a sample that is
  // negative, not finite, or of no time at all.
  bool Record(const TrafficSample& sample);

  // `ready` instances can serve now.
  TrafficWish Decide(int ready, MonoTime now);
  // The same with averages that come from elsewhere.
  TrafficWish Decide(double stable, double panic, int ready, MonoTime now);

 private:
  void UpdatePanic(bool over_threshold, MonoTime now);

  TrafficConfig config_;
  WindowAverage stable_;
  WindowAverage panic_;
  std::optional<WindowMax> delay_;
  std::optional<MonoTime> panic_since_;  // when it began
  MonoTime over_threshold_at_;           // when it was over the threshold last; in panic
  int max_panic_ = 0;                    // the most that were wished for in this panic
};

}  // namespace ctr::policy
