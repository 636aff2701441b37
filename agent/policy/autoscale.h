#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "agent/base/time.h"
#include "agent/policy/autoscale_config.h"
#include "agent/policy/cpu_scaler.h"
#include "agent/policy/memory_scaler.h"
#include "agent/policy/scale_plan.h"
#include "agent/policy/traffic_scaler.h"

namespace ctr::policy {

// A class as it is now.
struct AutoscaleView {
  std::span<const ScaledInstance> instances = {};  // those of instance-N that are not stopped
  int queued = 0;                                  // requests that wait for an instance
  bool busy = false;            // there is activity other than requests: an exec, a start
  MonoTime last_activity = {};  // the end of the class's newest activity
  int max_instances = 20;       // of the class
  int others = 0;               // live instances of the class that are not of instance-N
  std::optional<int> host_capacity =
      {};  // how many of instance-N the host can hold; none: not known
};

enum class Signal { kTraffic, kQueue, kCpu, kMemory };

struct SignalReport {
  Signal signal = Signal::kTraffic;
  double value = 0;         // in flight or requests a second; requests; parts of the limit
  double target = 0;        // for one instance, in the same unit
  std::optional<int> wish;  // none: it abstains
  std::string text;         // one line for people
};

// What made the number another than the signals' greatest wish; if several did, the last.
enum class Bound {
  kNone,
  kNoData,     // a signal has nothing to go by: none goes meanwhile
  kTolerance,  // too close to the target of as many as there are
  kHold,       // fewer were not wished for for long enough
  kMin,
  kMax,
  kMaxInstances,  // of the class
  kHost,          // can hold no more
  kLastAwake,     // one stays until the class has been idle for sleep_after
  kIdle,          // idle for sleep_after, or asleep: none
};

struct AutoscaleDecision {
  int desired = 0;                    // how many there are to be
  int wanted = 0;                     // the greatest wish of the signals
  std::optional<Duration> panicking;  // the traffic is in panic mode, for how long; else stable
  Bound bound = Bound::kNone;
  std::vector<SignalReport> signals;
  std::string reason;                // one line for people
  std::vector<int> start;            // indexes of instance-N
  std::vector<int> drain;            // indexes of instance-N
  std::optional<int> replacing;      // it runs out of memory; drained when another is ready
  std::optional<MonoTime> check_at;  // when it falls asleep, as things are; beside the ticks
};

// How many instances waiting requests need at once, without a window of data; 0: no wish. With none
// ready as many as it takes to steer for the target, and activation_scale at least. With some
// ready, whose places are all taken, as many more as the queue fills to their max_concurrency.
int BurstWish(const AutoscaleConfig& config, int queued, int healthy);

// How many instances a class is to have: the greatest wish of its signals (traffic, waiting
// requests, CPU, memory) within its bounds; and which of them to start and to drain. A value; one
// thread.
//
// Called with Record and then Decide every second, best at the same part of it, and with Decide
// alone whenever BurstWish exceeds the number of those that serve or come up. A plan that was
// carried out and a second look at the same time give nothing to do.
class Autoscaler {
 public:
  Autoscaler(const AutoscaleConfig& config, const AutoscaleView& view, MonoTime now);

  void Configure(const AutoscaleConfig& config, MonoTime now);

  // Of the whole class; requests that wait count as in flight. False for one that is no load.
  bool Record(const TrafficSample& sample) { return traffic_.Record(sample); }

  AutoscaleDecision Decide(const AutoscaleView& view, MonoTime now);

 private:
  struct Counts {
    int live = 0, healthy = 0, unready = 0, draining = 0;
    int in_flight = 0;  // of the live ones
  };
  struct Limits {
    int most = 0;
    Bound bound = Bound::kMax;
  };
  struct Victim {
    int index = 0;
    uint64_t generation = 0;
  };

  static Counts Count(const AutoscaleView& view);
  Limits LimitsOf(const AutoscaleView& view, const Counts& counts) const;
  bool IsIdle(const AutoscaleView& view, const Counts& counts, MonoTime now) const;
  void AddTraffic(AutoscaleDecision& decision, const Counts& counts, MonoTime now);
  void AddCpu(AutoscaleDecision& decision, const AutoscaleView& view, MonoTime now);
  MemoryWish AddMemory(AutoscaleDecision& decision, const AutoscaleView& view, MonoTime now);
  int WithTolerance(const TrafficWish& wish) const;
  void HoldScaleIn(AutoscaleDecision& decision, MonoTime now);
  void ApplyBounds(AutoscaleDecision& decision, const AutoscaleView& view, const Counts& counts,
                   MonoTime now);
  void Replace(AutoscaleDecision& decision, ScaleGoal& goal, const AutoscaleView& view,
               const MemoryWish& memory, MonoTime now);

  AutoscaleConfig config_;
  TrafficScaler traffic_;
  CpuScaler cpu_;
  MemoryScaler memory_;
  int desired_;
  std::optional<MonoTime> fewer_since_;  // fewer than desired_ have been wished for
  int fewer_ = 0;                        // the most of those wishes
  std::optional<Victim> victim_;
  std::optional<MonoTime> replaced_at_;
};

}  // namespace ctr::policy
