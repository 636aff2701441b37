#include "agent/policy/traffic_scaler.h"

#include <algorithm>
#include <cmath>

namespace ctr::policy {
namespace {

using std::chrono::seconds;

constexpr double kLeastTarget = 0.01;        // autoscaling.TargetMin
constexpr Duration kDelayStep = seconds(2);  // tickInterval of multiscaler.go
constexpr Duration kBucket = seconds(1);     // BucketSize of autoscaler/config
constexpr double kMostInstances = 1e6;       // far from what overflows an int

bool IsLoad(double value) { return std::isfinite(value) && value >= 0; }

int ToCount(double count) { return static_cast<int>(std::clamp(count, 0.0, kMostInstances)); }

std::optional<WindowMax> DelayWindow(const TrafficConfig& config) {
  if (config.scale_down_delay <= Duration::zero()) return std::nullopt;
  return WindowMax(config.scale_down_delay, kDelayStep);
}

bool SameWindows(const TrafficConfig& a, const TrafficConfig& b) {
  return a.metric == b.metric && a.scale_down_delay == b.scale_down_delay;
}

}  // namespace

double SteeredTarget(const TrafficConfig& config) {
  return std::max(kLeastTarget, config.target * config.target_utilization);
}

Duration PanicWindow(const TrafficConfig& config) {
  const double window = std::chrono::duration<double>(config.window).count();
  const double panic = std::round(window * config.panic_window_percentage / 100);
  return std::max<Duration>(kBucket, seconds(static_cast<int64_t>(panic)));
}

TrafficScaler::TrafficScaler(const TrafficConfig& config, int ready, MonoTime now)
    : config_(config),
      stable_(config.window),
      panic_(PanicWindow(config)),
      delay_(DelayWindow(config)),
      max_panic_(ready) {
  if (ready > 1) panic_since_ = over_threshold_at_ = now;
}

void TrafficScaler::Configure(const TrafficConfig& config, MonoTime now) {
  stable_.Resize(config.window, now);
  panic_.Resize(PanicWindow(config), now);
  if (config.metric != config_.metric) {  // what was recorded is another quantity
    stable_ = WindowAverage(config.window);
    panic_ = WindowAverage(PanicWindow(config));
  }
  if (!SameWindows(config, config_)) delay_ = DelayWindow(config);
  config_ = config;
}

bool TrafficScaler::Record(const TrafficSample& sample) {
  if (!IsLoad(sample.concurrency) || !IsLoad(sample.rps)) return false;
  if (sample.interval <= Duration::zero()) return false;
  const double value =
      config_.metric == TrafficConfig::Metric::kRps ? sample.rps : sample.concurrency;
  const Duration interval = std::min(sample.interval, stable_.window());
  for (Duration left = interval; left > Duration::zero();) {
    // The oldest first; a part of a second goes to the oldest.
    const Duration whole = left % kBucket == Duration::zero() ? kBucket : left % kBucket;
    const double part = static_cast<double>(whole.count()) / static_cast<double>(kBucket.count());
    left -= whole;
    stable_.Record(sample.at - left, value * part);
    panic_.Record(sample.at - left, value * part);
  }
  return true;
}

TrafficWish TrafficScaler::Decide(int ready, MonoTime now) {
  if (!stable_.IsEmpty(now)) {
    return Decide(stable_.Average(now), panic_.Average(now), ready, now);
  }
  TrafficWish none;
  none.target = SteeredTarget(config_);
  if (panic_since_) none.panicking = now - *panic_since_;
  return none;
}

void TrafficScaler::UpdatePanic(bool over_threshold, MonoTime now) {
  if (over_threshold) {
    if (!panic_since_) panic_since_ = now;
    over_threshold_at_ = now;
  } else if (panic_since_ && over_threshold_at_ + config_.window < now) {
    panic_since_.reset();
    max_panic_ = 0;
  }
}

TrafficWish TrafficScaler::Decide(double stable, double panic, int ready, MonoTime now) {
  TrafficWish result;
  result.target = SteeredTarget(config_);
  if (!IsLoad(stable) || !IsLoad(panic)) return result;
  result.valid = true;
  result.stable = stable;
  result.panic = panic;

  const double count = std::max(1, ready);
  const double most = std::ceil(config_.max_scale_up_rate * count);
  const double least = config_.reachable ? std::floor(count / config_.max_scale_down_rate) : 0.0;
  const double stable_need = std::ceil(stable / result.target);
  const double panic_need = std::ceil(panic / result.target);
  const auto limited = [&](double need) {
    const int wish = ToCount(std::min(std::max(need, least), most));
    return need > 0 ? std::max(wish, config_.activation_scale) : wish;
  };
  const int stable_wish = limited(stable_need);
  const int panic_wish = limited(panic_need);

  UpdatePanic(panic_need / count >= config_.panic_threshold / 100, now);

  result.wish = stable_wish;
  double need = stable_need;
  if (panic_since_) {
    need = std::max(stable_need, panic_need);
    result.panicking = now - *panic_since_;
    result.wish = std::max(stable_wish, panic_wish);
    result.held = result.wish < max_panic_;
    result.wish = max_panic_ = std::max(max_panic_, result.wish);
  }
  result.rate_limited = need > most || need < least;
  if (config_.reachable && delay_) {
    const int delayed = delay_->Record(now, result.wish);
    result.held = result.held || delayed > result.wish;
    result.wish = delayed;
  }
  return result;
}

}  // namespace ctr::policy
