#pragma once

#include <cmath>
#include <map>
#include <optional>
#include <vector>

#include <doctest/doctest.h>

#include "agent/policy/autoscale.h"

namespace ctr::policy {

inline const MonoTime kFleetStart = MonoTime(std::chrono::seconds(100000));

// Steers for seven requests in flight an instance, by traffic alone.
inline AutoscaleConfig Seven() {
  AutoscaleConfig config;
  config.traffic.target = 10;
  config.target_cpu.reset();
  config.target_memory.reset();
  return config;
}

// A class in virtual time: plans are carried out at once.
class Fleet {
 public:
  explicit Fleet(const AutoscaleConfig& config, int count = 0) : config_(config) {
    for (int i = 0; i < count; ++i) Start(i);
    view.last_activity = kFleetStart;
    scaler_.emplace(config, View(), now);
  }

  AutoscaleDecision Decide() {
    AutoscaleDecision decision = scaler_->Decide(View(), now);
    for (const int index : decision.start) Start(index);
    for (const int index : decision.drain) instances.erase(index);
    return decision;
  }

  // A second passes with that much in flight, by which the instances are busy.
  AutoscaleDecision Second(double in_flight) {
    now += std::chrono::seconds(1);
    const TrafficSample sample{.at = now, .concurrency = in_flight, .rps = in_flight};
    CHECK(scaler_->Record(sample));
    if (in_flight > 0) view.last_activity = now;
    for (auto& [index, instance] : instances) {
      instance.in_flight = static_cast<int>(std::ceil(in_flight / static_cast<double>(count())));
      if (in_flight > 0) instance.last_activity = now;
    }
    return Decide();
  }

  AutoscaleDecision Seconds(int seconds, double in_flight) {
    AutoscaleDecision decision;
    for (int i = 0; i < seconds; ++i) decision = Second(in_flight);
    return decision;
  }

  void Start(int index) {
    ScaledInstance instance;
    instance.index = index;
    instance.phase = start_as;
    instance.generation = ++generation_;
    instance.last_activity = now;
    instance.started_at = instance.ready_changed_at = now;
    instances[index] = instance;
  }

  int count() const { return static_cast<int>(instances.size()); }

  std::vector<int> indexes() const {
    std::vector<int> all;
    for (const auto& [index, instance] : instances) all.push_back(index);
    return all;
  }

  void Configure(const AutoscaleConfig& config) { scaler_->Configure(config, now); }

  std::map<int, ScaledInstance> instances;
  AutoscaleView view;
  MonoTime now = kFleetStart;
  ScaledInstance::Phase start_as = ScaledInstance::Phase::kHealthy;

 private:
  const AutoscaleView& View() {
    list_.clear();
    for (const auto& [index, instance] : instances) list_.push_back(instance);
    view.instances = list_;
    return view;
  }

  AutoscaleConfig config_;
  std::vector<ScaledInstance> list_;
  std::optional<Autoscaler> scaler_;
  uint64_t generation_ = 0;
};

inline const SignalReport* Find(const AutoscaleDecision& decision, Signal signal) {
  for (const SignalReport& report : decision.signals) {
    if (report.signal == signal) return &report;
  }
  return nullptr;
}

}  // namespace ctr::policy
