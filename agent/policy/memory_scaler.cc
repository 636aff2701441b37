#include "agent/policy/memory_scaler.h"

#include <algorithm>
#include <cmath>

#include "agent/policy/rounding.h"

namespace ctr::policy {
namespace {

constexpr size_t kLeastSamples = 5;  // that a line is laid through
constexpr double kRelief = 0.5;      // of what more instances should be, that they must be
constexpr Duration kForesight = std::chrono::hours(24);

double SecondsOf(Duration duration) { return std::chrono::duration<double>(duration).count(); }

bool HasMemory(const MemoryInstance& instance) {
  return std::isfinite(instance.used_bytes) && instance.used_bytes >= 0 &&
         std::isfinite(instance.limit_bytes) && instance.limit_bytes > 0;
}

using Samples = std::deque<std::pair<MonoTime, double>>;

// The slope of the least-squares line through the samples from `begin` on, per second.
std::optional<double> Slope(const Samples& samples, size_t begin) {
  const double count = static_cast<double>(samples.size() - begin);
  if (samples.size() - begin < kLeastSamples) return std::nullopt;
  double sum_t = 0, sum_y = 0, sum_tt = 0, sum_ty = 0;
  for (size_t i = begin; i < samples.size(); ++i) {
    const double t = SecondsOf(samples[i].first - samples.back().first);
    sum_t += t;
    sum_y += samples[i].second;
    sum_tt += t * t;
    sum_ty += t * samples[i].second;
  }
  const double spread = count * sum_tt - sum_t * sum_t;
  if (spread <= kEpsilon) return std::nullopt;
  return (count * sum_ty - sum_t * sum_y) / spread;
}

}  // namespace

void MemoryTrend::Record(MonoTime at, double used, Duration window) {
  if (!samples_.empty() && at <= samples_.back().first) return;
  samples_.emplace_back(at, used);
  while (samples_.front().first < at - window) samples_.pop_front();
}

std::optional<Duration> MemoryTrend::LimitIn(Duration window) const {
  if (samples_.empty()) return std::nullopt;
  const MonoTime newest = samples_.back().first;
  if (newest - samples_.front().first < window * 9 / 10) return std::nullopt;
  size_t half = 0;
  while (samples_[half].first < newest - window / 2) ++half;
  const std::optional<double> whole = Slope(samples_, 0);
  const std::optional<double> later = Slope(samples_, half);
  if (!whole || !later) return std::nullopt;
  const double slope = std::min(*whole, *later);
  if (slope <= kEpsilon) return std::nullopt;
  const double seconds = std::max(0.0, 1 - samples_.back().second) / slope;
  if (seconds >= SecondsOf(kForesight)) return std::nullopt;
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
}

MemoryWish MemoryScaler::Decide(std::span<const MemoryInstance> instances, MonoTime now) {
  MemoryWish result;
  result.replace = FindReplacement(instances, now);
  int ready = 0;
  double used = 0, limit = 0;
  const auto counted = std::count_if(instances.begin(), instances.end(), [](const auto& instance) {
    return instance.ready && HasMemory(instance);
  });
  for (const MemoryInstance& instance : instances) {
    if (!instance.ready || !HasMemory(instance)) continue;
    // One that leaks is replaced; it says nothing of what the others need.
    if (counted > 1 && result.replace && instance.index == result.replace->index) continue;
    ++ready;
    used += instance.used_bytes;
    limit += instance.limit_bytes;
    if (std::isfinite(instance.pressure)) {
      result.pressure = std::max(result.pressure, instance.pressure);
    }
  }
  if (ready == 0) return result;
  result.utilization = used / limit;
  Ask(result, ready, now);
  return result;
}

bool MemoryScaler::Relieved(const MemoryWish& now_is, int ready) const {
  const double spread = asked_->utilization * asked_->ready / ready;
  const double relief = asked_->utilization - now_is.utilization;
  if (relief + kEpsilon >= kRelief * (asked_->utilization - spread)) return true;
  return asked_->pressure > config_.pressure && now_is.pressure <= kRelief * asked_->pressure;
}

void MemoryScaler::Ask(MemoryWish& result, int ready, MonoTime now) {
  using Status = MemoryWish::Status;
  const bool above = result.utilization > config_.target + kEpsilon;
  const bool pressed = result.pressure > config_.pressure;
  if (!above && !pressed) {
    no_help_ = false;
    if (asked_ && now - needed_at_ >= config_.hold) asked_.reset();
    result.status = asked_ ? Status::kHeld : Status::kBelow;
    if (asked_) result.wish = asked_->wish;
    return;
  }
  needed_at_ = now;
  if (asked_ && ready >= asked_->wish && !asked_->fulfilled_at) asked_->fulfilled_at = now;
  const bool shown =
      asked_ && asked_->fulfilled_at && now - *asked_->fulfilled_at >= config_.settle;
  if (shown && !Relieved(result, ready)) {
    no_help_ = true;
    asked_.reset();
  }
  if (no_help_) {
    result.status = Status::kNoHelp;
    return;
  }
  if (!asked_ || shown) {
    const double by_ratio = std::ceil(ready * result.utilization / config_.target - kEpsilon);
    const int wish =
        (above ? static_cast<int>(std::min(1e6, by_ratio)) : ready) + (pressed ? 1 : 0);
    asked_ = {ready, result.utilization, result.pressure, wish, std::nullopt};
  }
  result.status = Status::kMore;
  result.wish = asked_->wish;
}

std::optional<MemoryReplacement> MemoryScaler::FindReplacement(
    std::span<const MemoryInstance> instances, MonoTime now) {
  std::map<std::pair<int, uint64_t>, MemoryTrend> trends;
  std::optional<MemoryReplacement> found;
  const auto time_left = [](const MemoryReplacement& replacement) {
    return replacement.limit_in.value_or(Duration::zero());
  };
  for (const MemoryInstance& instance : instances) {
    if (!instance.ready || !HasMemory(instance)) continue;
    const std::pair key(instance.index, instance.generation);
    const double used = instance.used_bytes / instance.limit_bytes;
    MemoryTrend& trend = trends[key] = std::move(trends_[key]);
    trend.Record(now, used, config_.trend_window);
    MemoryReplacement candidate{instance.index, instance.generation, used, std::nullopt};
    if (used < config_.replace_at) {
      candidate.limit_in = trend.LimitIn(config_.trend_window);
      if (used < config_.trend_floor || !candidate.limit_in) continue;
      if (*candidate.limit_in > config_.horizon) continue;
    }
    // Of those at the limit the fullest, then by time, then by index.
    const auto worse = [&](const MemoryReplacement& a, const MemoryReplacement& b) {
      if (time_left(a) != time_left(b)) return time_left(a) < time_left(b);
      return a.used != b.used ? a.used > b.used : a.index < b.index;
    };
    if (!found || worse(candidate, *found)) found = candidate;
  }
  trends_ = std::move(trends);
  return found;
}

}  // namespace ctr::policy
