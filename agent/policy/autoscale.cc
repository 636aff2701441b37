#include "agent/policy/autoscale.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "agent/policy/autoscale_text.h"
#include "agent/policy/rounding.h"

namespace ctr::policy {
namespace {

using Phase = ScaledInstance::Phase;

// So that a class whose instances always use that much is not replaced all the time.
constexpr Duration kReplaceInterval = std::chrono::minutes(5);

std::vector<CpuInstance> CpuOf(const AutoscaleView& view) {
  std::vector<CpuInstance> all;
  for (const ScaledInstance& instance : view.instances) {
    CpuInstance cpu;
    cpu.phase = CpuInstance::Phase::kPending;
    // As groupPods of replica_calculator.go: a pod that was ready once counts for its CPU.
    const bool ran = instance.phase == Phase::kHealthy || instance.phase == Phase::kUnready;
    if (ran) cpu.phase = CpuInstance::Phase::kRunning;
    if (instance.phase == Phase::kDraining) cpu.phase = CpuInstance::Phase::kLeaving;
    cpu.limit_cores = instance.cpu_limit;
    cpu.sample = instance.cpu;
    cpu.started_at = instance.started_at;
    cpu.ready_changed_at = instance.ready_changed_at;
    all.push_back(cpu);
  }
  return all;
}

std::vector<MemoryInstance> MemoryOf(const AutoscaleView& view) {
  constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
  std::vector<MemoryInstance> all;
  for (const ScaledInstance& instance : view.instances) {
    all.push_back({.index = instance.index,
                   .generation = instance.generation,
                   .ready = instance.phase == Phase::kHealthy,
                   .used_bytes = instance.memory_used.value_or(kUnknown),
                   .limit_bytes = instance.memory_limit,
                   .pressure = instance.memory_pressure});
  }
  return all;
}

CpuConfig CpuConfigOf(const AutoscaleConfig& config) {
  CpuConfig cpu;
  cpu.target = config.target_cpu.value_or(cpu.target);
  return cpu;
}

MemoryConfig MemoryConfigOf(const AutoscaleConfig& config) {
  MemoryConfig memory;
  memory.target = config.target_memory.value_or(memory.target);
  return memory;
}

// The signal with the greatest wish, the first of equals.
const SignalReport* Greatest(const std::vector<SignalReport>& signals) {
  const SignalReport* greatest = nullptr;
  for (const SignalReport& signal : signals) {
    if (signal.wish && (!greatest || *signal.wish > *greatest->wish)) greatest = &signal;
  }
  return greatest;
}

}  // namespace

int BurstWish(const AutoscaleConfig& config, int queued, int healthy) {
  if (queued <= 0) return 0;
  const TrafficConfig traffic = TrafficOf(config);
  const double most = std::ceil(traffic.max_scale_up_rate * std::max(1, healthy));
  if (healthy == 0) {
    const int needed = CeilCount(queued / SteeredTarget(traffic));
    return std::min(std::max(needed, traffic.activation_scale), CeilCount(most));
  }
  if (!config.max_concurrency || *config.max_concurrency <= 0) return 0;
  if (queued < *config.max_concurrency) return 0;
  const int more = CeilCount(static_cast<double>(queued) / *config.max_concurrency);
  return std::min(healthy + more, CeilCount(most));
}

Autoscaler::Counts Autoscaler::Count(const AutoscaleView& view) {
  Counts counts;
  for (const ScaledInstance& instance : view.instances) {
    if (instance.IsLive()) counts.in_flight += instance.in_flight;
    ++(instance.IsLive() ? counts.live : counts.draining);
    if (instance.phase == Phase::kHealthy) ++counts.healthy;
    if (instance.phase == Phase::kUnready) ++counts.unready;
  }
  return counts;
}

Autoscaler::Autoscaler(const AutoscaleConfig& config, const AutoscaleView& view, MonoTime now)
    : config_(config),
      traffic_(TrafficOf(config), Count(view).healthy, now),
      cpu_(CpuConfigOf(config)),
      memory_(MemoryConfigOf(config)),
      desired_(Count(view).live) {}

void Autoscaler::Configure(const AutoscaleConfig& config, MonoTime now) {
  config_ = config;
  traffic_.Configure(TrafficOf(config), now);
  cpu_.Configure(CpuConfigOf(config));
  memory_.Configure(MemoryConfigOf(config));
}

AutoscaleDecision Autoscaler::Decide(const AutoscaleView& view, MonoTime now) {
  AutoscaleDecision decision;
  const Counts counts = Count(view);
  AddTraffic(decision, counts, now);
  if (int wish = BurstWish(config_, view.queued, counts.healthy); wish > 0) {
    wish += counts.unready;  // beside those that take no request
    decision.desired = std::max(decision.desired, wish);
    decision.signals.push_back({Signal::kQueue, static_cast<double>(view.queued),
                                SteeredTarget(TrafficOf(config_)), wish,
                                QueueText(view.queued, counts.healthy, wish)});
  }
  if (config_.target_cpu) AddCpu(decision, view, now);
  MemoryWish memory;
  if (config_.target_memory) memory = AddMemory(decision, view, now);

  const SignalReport* greatest = Greatest(decision.signals);
  decision.wanted = greatest ? *greatest->wish : 0;
  if (decision.bound != Bound::kNoData && decision.desired != decision.wanted) {
    decision.bound = Bound::kTolerance;
  }
  ApplyBounds(decision, view, counts, now);
  cpu_.Scaled(desired_, decision.desired, now);
  desired_ = decision.desired;

  ScaleGoal goal;
  goal.count = desired_;
  goal.max = config_.max;
  goal.room = std::max(0, LimitsOf(view, counts).most - counts.live);
  Replace(decision, goal, view, memory, now);
  ScalePlan plan = PlanScale(view.instances, goal);
  decision.start = std::move(plan.start);
  decision.drain = std::move(plan.drain);

  const std::string bound = BoundText(decision, config_);
  if (greatest && decision.bound != Bound::kIdle) decision.reason = greatest->text;
  if (greatest == nullptr) decision.reason = decision.signals.front().text;
  if (!decision.reason.empty() && !bound.empty()) decision.reason += "; ";
  decision.reason += bound;
  return decision;
}

int Autoscaler::WithTolerance(const TrafficWish& wish) const {
  const double load = wish.panicking ? std::max(wish.stable, wish.panic) : wish.stable;
  if (wish.wish > desired_ && desired_ >= std::max(1, config_.traffic.activation_scale)) {
    const double bearable = desired_ * wish.target * (1 + config_.tolerance);
    if (load <= bearable + kEpsilon) return desired_;
  }
  if (wish.wish < desired_) {
    const int needed = CeilCount(wish.stable / (wish.target * (1 - config_.tolerance)));
    return std::clamp(needed, wish.wish, desired_);
  }
  return wish.wish;
}

void Autoscaler::AddTraffic(AutoscaleDecision& decision, const Counts& counts, MonoTime now) {
  const TrafficWish wish = traffic_.Decide(counts.healthy, now);
  SignalReport report;
  report.signal = Signal::kTraffic;
  report.target = wish.target;
  report.text = TrafficText(wish, config_.traffic.metric, counts.healthy);
  decision.panicking = wish.panicking;
  if (wish.valid) {
    report.value = wish.panicking ? std::max(wish.stable, wish.panic) : wish.stable;
    report.wish = wish.wish;
    decision.desired = WithTolerance(wish);
  } else {
    decision.desired = desired_;
    decision.bound = Bound::kNoData;
  }
  decision.signals.push_back(std::move(report));
}

void Autoscaler::AddCpu(AutoscaleDecision& decision, const AutoscaleView& view, MonoTime now) {
  const CpuWish wish = cpu_.Decide(CpuOf(view), desired_, now);
  SignalReport report{Signal::kCpu, wish.utilization, *config_.target_cpu, std::nullopt,
                      CpuText(wish, *config_.target_cpu)};
  if (wish.valid()) {
    report.wish = wish.wish;
    decision.desired = std::max(decision.desired, wish.wish);
  } else if (wish.status == CpuWish::Status::kNoSamples && decision.desired < desired_) {
    // As computeReplicasForMetrics of horizontal.go: without one of the metrics it does not go
    // down.
    decision.desired = desired_;
    decision.bound = Bound::kNoData;
  }
  decision.signals.push_back(std::move(report));
}

MemoryWish Autoscaler::AddMemory(AutoscaleDecision& decision, const AutoscaleView& view,
                                 MonoTime now) {
  MemoryWish wish = memory_.Decide(MemoryOf(view), now);
  decision.desired = std::max(decision.desired, wish.wish.value_or(0));
  decision.signals.push_back({Signal::kMemory, wish.utilization, *config_.target_memory, wish.wish,
                              MemoryText(wish, *config_.target_memory)});
  return wish;
}

bool Autoscaler::IsIdle(const AutoscaleView& view, const Counts& counts, MonoTime now) const {
  if (config_.min > 0 || view.queued > 0 || counts.in_flight > 0 || view.busy) return false;
  if (counts.live == 0) return true;  // nothing but a request wakes it
  return config_.sleep_after && now - view.last_activity >= *config_.sleep_after;
}

Autoscaler::Limits Autoscaler::LimitsOf(const AutoscaleView& view, const Counts& counts) const {
  Limits limits{config_.max, Bound::kMax};
  const auto limit = [&](int most, Bound bound) {
    most = std::max(0, most - counts.draining);
    if (most < limits.most) limits = {most, bound};
  };
  limit(view.max_instances - view.others, Bound::kMaxInstances);
  if (view.host_capacity) limit(*view.host_capacity, Bound::kHost);
  return limits;
}

void Autoscaler::HoldScaleIn(AutoscaleDecision& decision, MonoTime now) {
  if (decision.desired >= desired_) {
    fewer_since_.reset();
    return;
  }
  fewer_ = fewer_since_ ? std::max(fewer_, decision.desired) : decision.desired;
  if (!fewer_since_) fewer_since_ = now;
  if (now - *fewer_since_ < config_.scale_in_hold) {
    decision.desired = desired_;
    decision.bound = Bound::kHold;
    return;
  }
  decision.desired = fewer_;
  fewer_since_.reset();
}

void Autoscaler::ApplyBounds(AutoscaleDecision& decision, const AutoscaleView& view,
                             const Counts& counts, MonoTime now) {
  if (IsIdle(view, counts, now)) {
    decision.desired = 0;
    decision.bound = Bound::kIdle;
    fewer_since_.reset();
    return;
  }
  if (decision.desired < config_.min) {
    decision.desired = config_.min;
    decision.bound = Bound::kMin;
  }
  if (decision.desired < 1) {
    decision.desired = 1;
    decision.bound = Bound::kLastAwake;
  }
  HoldScaleIn(decision, now);
  const Limits limits = LimitsOf(view, counts);
  // That there is no room for more takes none away.
  const int most = std::min(config_.max, std::max(limits.most, counts.live));
  if (decision.desired > most) {
    decision.desired = most;
    decision.bound = most == config_.max ? Bound::kMax : limits.bound;
  }
  const bool quiet = view.queued == 0 && counts.in_flight == 0 && !view.busy;
  if (config_.min == 0 && config_.sleep_after && quiet) {
    decision.check_at = view.last_activity + *config_.sleep_after;
  }
}

// One at a time: another is started beside it, and when as many as there are to be are healthy
// without it, it goes. Without room for another it goes first, unless it is the only healthy one.
void Autoscaler::Replace(AutoscaleDecision& decision, ScaleGoal& goal, const AutoscaleView& view,
                         const MemoryWish& memory, MonoTime now) {
  const Counts counts = Count(view);
  const auto is_victim = [&](const ScaledInstance& instance) {
    return victim_ && instance.index == victim_->index &&
           instance.generation == victim_->generation && instance.phase == Phase::kHealthy;
  };
  if (std::none_of(view.instances.begin(), view.instances.end(), is_victim)) victim_.reset();
  const bool may = !replaced_at_ || now - *replaced_at_ >= kReplaceInterval;
  if (!victim_ && memory.replace && may && goal.count > 0) {
    victim_ = Victim{memory.replace->index, memory.replace->generation};
    replaced_at_ = now;
  }
  if (!victim_) return;
  decision.replacing = victim_->index;
  const int others = counts.healthy - 1;
  const bool room = goal.room > 0 && counts.live < config_.max;
  if (others >= goal.count) {
    goal.victim = victim_->index;
  } else if (counts.live > goal.count || room) {
    ++goal.count;
  } else if (others > 0 && counts.live == goal.count) {
    goal.victim = victim_->index;
    --goal.count;
  }
}

}  // namespace ctr::policy
