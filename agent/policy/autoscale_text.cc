#include "agent/policy/autoscale_text.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace ctr::policy {
namespace {

// With one decimal, if it has any.
std::string Number(double value) {
  char text[64];
  const double rounded = std::round(value * 10) / 10;
  std::snprintf(text, sizeof text, "%.*f", rounded == std::floor(rounded) ? 0 : 1, rounded);
  return text;
}

std::string Percent(double part) { return Number(std::round(part * 100)) + " %"; }

std::string Seconds(Duration duration) {
  return Number(std::round(std::chrono::duration<double>(duration).count())) + " s";
}

std::string Wants(int wish) { return ": wants " + std::to_string(wish); }

}  // namespace

std::string TrafficText(const TrafficWish& wish, TrafficConfig::Metric metric, int ready) {
  if (!wish.valid) return "traffic: no data yet";
  const double load = wish.panicking ? std::max(wish.stable, wish.panic) : wish.stable;
  const bool rps = metric == TrafficConfig::Metric::kRps;
  std::string text = "traffic: " + Number(load) + (rps ? " requests/s" : " in flight") + " / " +
                     std::to_string(ready) + " ready, target " + Number(wish.target) +
                     Wants(wish.wish);
  if (wish.panicking) text += "; panic since " + Seconds(*wish.panicking);
  return text;
}

std::string QueueText(int queued, int ready, int wish) {
  return "queue: " + std::to_string(queued) + " waiting / " + std::to_string(ready) + " ready" +
         Wants(wish);
}

std::string CpuText(const CpuWish& wish, double target) {
  switch (wish.status) {
    case CpuWish::Status::kNoInstances:
      return "cpu: no instance to go by";
    case CpuWish::Status::kNoLimit:
      return "cpu: not used, as there is no limit on it";
    case CpuWish::Status::kNoSamples:
      return "cpu: no instance has been ready for long enough to go by";
    case CpuWish::Status::kOk:
      break;
  }
  std::string text =
      "cpu: " + Percent(wish.utilization) + " of the limit, target " + Percent(target);
  text += Wants(wish.wish);
  if (wish.stabilized) text += ", as not long ago";
  if (wish.rate_limited) text += " at a time";
  return text;
}

std::string MemoryText(const MemoryWish& wish, double target) {
  std::string text =
      "memory: " + Percent(wish.utilization) + " of the limit, target " + Percent(target);
  if (wish.pressure > 0) text += ", pressure " + Number(wish.pressure) + " %";
  switch (wish.status) {
    case MemoryWish::Status::kNothing:
      return "memory: no instance with a limit to go by";
    case MemoryWish::Status::kBelow:
      return text;
    case MemoryWish::Status::kNoHelp:
      return text + ": more instances were no relief";
    case MemoryWish::Status::kMore:
    case MemoryWish::Status::kHeld:
      break;
  }
  text += Wants(wish.wish.value_or(0));
  return wish.status == MemoryWish::Status::kHeld ? text + ", as not long ago" : text;
}

std::string BoundText(const AutoscaleDecision& decision, const AutoscaleConfig& config) {
  const std::string desired = std::to_string(decision.desired);
  switch (decision.bound) {
    case Bound::kNone:
      return "";
    case Bound::kNoData:
      return "stays at " + desired + " until there is data";
    case Bound::kTolerance:
      return "stays at " + desired + ": within " + Percent(config.tolerance) + " of its target";
    case Bound::kHold:
      return "stays at " + desired + " until that has lasted " + Seconds(config.scale_in_hold);
    case Bound::kMin:
      return "min is " + desired;
    case Bound::kMax:
      return "max is " + desired;
    case Bound::kMaxInstances:
      return "max_instances leaves " + desired;
    case Bound::kHost:
      return "the host can hold " + desired;
    case Bound::kLastAwake:
      return config.sleep_after ? "one stays awake until idle for " + Seconds(*config.sleep_after)
                                : "one stays awake: sleep_after is never";
    case Bound::kIdle:
      return "idle: sleeps until the next request";
  }
  return "";
}

}  // namespace ctr::policy
