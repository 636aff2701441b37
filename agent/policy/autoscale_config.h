#pragma once

#include <optional>
#include <string>

#include "agent/base/time.h"
#include "agent/policy/traffic_scaler.h"

namespace ctr::policy {

// How a class scales: [autoscale] of its file, and what of the rest of it counts.
struct AutoscaleConfig {
  int min = 0;
  int max = 20;           // instance-0 … instance-(max-1)
  TrafficConfig traffic;  // target_concurrency or target_rps, window and the KPA's other knobs
  std::optional<double> target_cpu = 0.7;     // of the instance's limit; none: not looked at
  std::optional<double> target_memory = 0.8;  // of the instance's limit; none: not looked at

  // Of the class.
  std::optional<Duration> sleep_after = std::chrono::minutes(10);  // none: never to zero
  std::optional<int> max_concurrency = {};  // one instance takes no more at a time

  // What keeps noise from moving anything, beyond what the scalers' originals have. The traffic
  // must leave the target of as many as there are by that part, as Kubernetes' HPA has it; zero:
  // the KPA to the letter.
  double tolerance = 0.1;
  // Fewer must be wished for through that long.
  Duration scale_in_hold = std::chrono::seconds(10);
};

// What is impossible in it, beginning with the name of its key; empty if nothing is.
std::string CheckAutoscale(const AutoscaleConfig& config);

// The traffic's part: Knative does not steer for more than an instance takes at a time
// (ResolveMetricTarget of pkg/reconciler/autoscaling/resources/target.go).
TrafficConfig TrafficOf(const AutoscaleConfig& config);

}  // namespace ctr::policy
