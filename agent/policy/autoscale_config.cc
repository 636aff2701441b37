#include "agent/policy/autoscale_config.h"

#include <algorithm>
#include <cmath>

namespace ctr::policy {
namespace {

using std::chrono::hours;
using std::chrono::seconds;

bool Within(double value, double least, double most) {
  return std::isfinite(value) && value >= least && value <= most;
}

bool IsPart(double value) { return std::isfinite(value) && value > 0 && value <= 1; }

bool IsWholeSeconds(Duration duration) { return duration % seconds(1) == Duration::zero(); }

// The limits are those of Knative (autoscaler/config/config.go, apis/autoscaling/register.go).
std::string CheckTraffic(const TrafficConfig& config) {
  const bool rps = config.metric == TrafficConfig::Metric::kRps;
  if (!Within(config.target, 0.01, 1e6)) {
    return std::string(rps ? "target_rps" : "target_concurrency") + " must be 0.01 to 1000000";
  }
  if (!IsPart(config.target_utilization))
    return "target_utilization must be more than 0, at most 1";
  if (config.window < seconds(6) || config.window > hours(1) || !IsWholeSeconds(config.window)) {
    return "window must be whole seconds, 6s to 1h";
  }
  if (!Within(config.panic_window_percentage, 1, 100)) {
    return "panic_window_percentage must be 1 to 100";
  }
  if (!Within(config.panic_threshold, 110, 1000)) return "panic_threshold must be 110 to 1000";
  if (!(Within(config.max_scale_up_rate, 1, 1e6) && config.max_scale_up_rate > 1)) {
    return "max_scale_up_rate must be more than 1, at most 1000000";
  }
  if (!(Within(config.max_scale_down_rate, 1, 1e6) && config.max_scale_down_rate > 1)) {
    return "max_scale_down_rate must be more than 1, at most 1000000";
  }
  if (config.activation_scale < 1) return "activation_scale must be at least 1";
  if (config.scale_down_delay < Duration::zero() || config.scale_down_delay > hours(1) ||
      !IsWholeSeconds(config.scale_down_delay)) {
    return "scale_down_delay must be whole seconds, 0s to 1h";
  }
  return "";
}

}  // namespace

std::string CheckAutoscale(const AutoscaleConfig& config) {
  if (config.min < 0) return "min must be at least 0";
  if (config.max < 1) return "max must be at least 1";
  if (config.min > config.max) return "min must be at most max";
  if (config.target_cpu && !IsPart(*config.target_cpu)) {
    return "target_cpu must be more than 0, at most 1";
  }
  if (config.target_memory && !IsPart(*config.target_memory)) {
    return "target_memory must be more than 0, at most 1";
  }
  if (!Within(config.tolerance, 0, 0.9)) return "tolerance must be 0 to 0.9";
  if (config.scale_in_hold < Duration::zero()) return "scale_in_hold must be at least 0s";
  return CheckTraffic(config.traffic);
}

TrafficConfig TrafficOf(const AutoscaleConfig& config) {
  TrafficConfig traffic = config.traffic;
  if (traffic.metric == TrafficConfig::Metric::kConcurrency && config.max_concurrency) {
    traffic.target = std::min(traffic.target, static_cast<double>(*config.max_concurrency));
  }
  return traffic;
}

}  // namespace ctr::policy
