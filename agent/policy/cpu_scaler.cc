#include "agent/policy/cpu_scaler.h"

#include <algorithm>
#include <cmath>

#include "agent/policy/rounding.h"

namespace ctr::policy {
namespace {

using std::chrono::seconds;

constexpr Duration kScaleUpPeriod = seconds(15);
constexpr int kScaleUpInstances = 4;
constexpr double kScaleUpFactor = 2;  // 100 %

// Sums over some of the instances.
struct Usage {
  double cores = 0;
  double limit = 0;
  int count = 0;

  void Add(double used, double of) {
    cores += used;
    limit += of;
    ++count;
  }
  // In whole percent, rounded down, as metrics.GetResourceUtilizationRatio has it.
  double Percent() const { return std::floor(100 * cores / limit + kEpsilon); }
};

enum class Group { kReady, kUnready, kMissing, kIgnored };

bool HasSample(const CpuInstance& instance) {
  return instance.sample && std::isfinite(instance.sample->cores) && instance.sample->cores >= 0;
}

// groupPods of replica_calculator.go.
Group GroupOf(const CpuInstance& instance, const CpuConfig& config, MonoTime now) {
  if (instance.phase == CpuInstance::Phase::kLeaving) return Group::kIgnored;
  if (instance.phase == CpuInstance::Phase::kPending) return Group::kUnready;
  if (!HasSample(instance)) return Group::kMissing;
  if (!instance.started_at || !instance.ready_changed_at) return Group::kUnready;
  bool unready;
  if (*instance.started_at + config.initialization > now) {
    // Its sample must be of a time when it was as it is.
    unready = !instance.ready ||
              instance.sample->at < *instance.ready_changed_at + instance.sample->window;
  } else {
    unready = !instance.ready &&
              *instance.started_at + config.initial_readiness_delay > *instance.ready_changed_at;
  }
  return unready ? Group::kUnready : Group::kReady;
}

bool HasLimit(const CpuInstance& instance) {
  return std::isfinite(instance.limit_cores) && instance.limit_cores > 0;
}

}  // namespace

CpuWish CpuReplicas(std::span<const CpuInstance> instances, int current, const CpuConfig& config,
                    MonoTime now) {
  using Status = CpuWish::Status;
  CpuWish result;
  Usage usage, missing, unready;
  for (const CpuInstance& instance : instances) {
    const Group group = GroupOf(instance, config, now);
    if (group == Group::kIgnored) continue;
    if (!HasLimit(instance)) {
      result.status = Status::kNoLimit;
      return result;
    }
    if (group == Group::kReady) usage.Add(instance.sample->cores, instance.limit_cores);
    if (group == Group::kMissing) missing.Add(0, instance.limit_cores);
    if (group == Group::kUnready) unready.Add(0, instance.limit_cores);
  }
  if (usage.count == 0) {
    result.status = missing.count + unready.count > 0 ? Status::kNoSamples : Status::kNoInstances;
    return result;
  }
  result.status = Status::kOk;
  result.utilization = usage.Percent() / 100;
  result.wish = current;

  const double target_percent = config.target * 100;
  const auto within_tolerance = [&](double ratio) {
    return std::abs(1 - ratio) <= config.tolerance + kEpsilon;
  };
  const double ratio = usage.Percent() / target_percent;
  const bool with_unready = unready.count > 0 && ratio > 1;
  if (!with_unready && missing.count == 0) {
    if (!within_tolerance(ratio)) result.wish = CeilCount(ratio * usage.count);
    return result;
  }

  Usage assumed = usage;
  const auto assume = [&](const Usage& group, double part) {
    assumed.cores += group.limit * part;
    assumed.limit += group.limit;
    assumed.count += group.count;
  };
  if (ratio < 1) assume(missing, std::max(1.0, config.target));
  if (ratio > 1) assume(missing, 0);
  if (with_unready) assume(unready, 0);
  const double new_ratio = assumed.Percent() / target_percent;
  if (within_tolerance(new_ratio)) return result;
  if ((ratio < 1 && new_ratio > 1) || (ratio > 1 && new_ratio < 1)) return result;
  const int wish = CeilCount(new_ratio * assumed.count);
  const bool turned = (new_ratio < 1 && wish > current) || (new_ratio > 1 && wish < current);
  if (!turned) result.wish = wish;
  return result;
}

CpuWish CpuScaler::Decide(std::span<const CpuInstance> instances, int current, MonoTime now) {
  if (!began_) {
    // recordInitialRecommendation: it does not go down before it has watched for a while.
    wishes_.emplace_back(now, current);
    began_ = true;
  }
  CpuWish result = CpuReplicas(instances, current, config_, now);
  if (!result.valid()) return result;
  const int stable = Stabilize(result.wish, current, now);
  result.stabilized = stable > result.wish;
  result.wish = stable;
  if (result.wish > current) {
    const int limit = ScaleUpLimit(current, now);
    result.rate_limited = result.wish > limit;
    result.wish = std::min(result.wish, limit);
  }
  return result;
}

int CpuScaler::Stabilize(int wish, int current, MonoTime now) {
  while (!wishes_.empty() && wishes_.back().second <= wish) wishes_.pop_back();
  while (!wishes_.empty() && wishes_.front().first <= now - config_.stabilization) {
    wishes_.pop_front();
  }
  wishes_.emplace_back(now, wish);
  if (wish >= current) return wish;
  return std::min(current, wishes_.front().second);
}

int CpuScaler::ScaleUpLimit(int current, MonoTime now) {
  while (!changes_.empty() && changes_.front().first <= now - kScaleUpPeriod) changes_.pop_front();
  int before = current;
  for (const auto& [at, change] : changes_) before -= change;
  const int by_percent = CeilCount(before * kScaleUpFactor);
  return std::max({current, before + kScaleUpInstances, by_percent});
}

void CpuScaler::Scaled(int from, int to, MonoTime now) {
  if (from == to) return;
  changes_.emplace_back(now, to - from);
  while (changes_.front().first <= now - kScaleUpPeriod) changes_.pop_front();
}

}  // namespace ctr::policy
