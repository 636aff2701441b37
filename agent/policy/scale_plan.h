#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "agent/base/time.h"
#include "agent/policy/cpu_scaler.h"

namespace ctr::policy {

// One of a class's instance-N that is not stopped.
struct ScaledInstance {
  enum class Phase {
    kStarting,
    kHealthy,   // overloaded or not
    kUnready,   // was healthy, and fails its readiness check now: takes no requests
    kWaiting,   // failed, and is to be started again after its backoff: keeps its place, so that
                // a class that cannot start does not try every index
    kDraining,  // drains or stops: still takes room, and its index
  };

  int index = 0;
  uint64_t generation = 0;
  Phase phase = Phase::kHealthy;
  int in_flight = 0;
  MonoTime last_activity = {};  // the end of its newest, or when it became healthy

  // What it uses, where that is known. No limit: 0.
  double cpu_limit = 0;  // cores
  std::optional<CpuSample> cpu = {};
  std::optional<MonoTime> started_at = {};        // its process
  std::optional<MonoTime> ready_changed_at = {};  // when it became healthy, or ceased to be
  double memory_limit = 0;                        // bytes
  std::optional<double> memory_used = {};         // bytes: memory.current - inactive_file
  double memory_pressure = 0;                     // "some avg10" of its memory.pressure, percent

  bool IsLive() const { return phase != Phase::kDraining; }
};

// Indexes of instances, in the order in which to do it.
struct ScalePlan {
  std::vector<int> start;
  std::vector<int> drain;
};

struct ScaleGoal {
  int count = 0;                   // how many there are to be, those that drain aside
  int max = 20;                    // indexes below it may be started
  int room = 20;                   // how many may be started now
  std::optional<int> victim = {};  // this one goes first
};

// Which to start, the lowest free index first, or which to drain: one that is to be replaced or
// beyond the indexes first, then those that are not healthy, then the idlest: with the fewest in
// flight, of those the one idle for longest, of those the highest index.
ScalePlan PlanScale(std::span<const ScaledInstance> instances, const ScaleGoal& goal);

}  // namespace ctr::policy
