#pragma once

#include <cstdint>
#include <deque>
#include <queue>
#include <vector>

#include "agent/policy/scale_plan.h"

namespace ctr::policy {

// Times in seconds since the beginning of the simulation.
struct SimulatedRequest {
  double came = 0;
  double service = 0;  // how long it takes while there is CPU enough
  double cores = 0;    // that it uses meanwhile
};

// An instance whose requests share its CPU. Their progress is kept in a time of its own, which runs
// slower than the clock while they want more cores than there are: so each ends at a moment of that
// time that is known when it comes. cpu_limit is in cores, 0: no limit. A value; one thread.
class SimulatedInstance {
 public:
  SimulatedInstance(int index, uint64_t generation, double started_at, double healthy_at)
      : index(index), generation(generation), started_at(started_at), healthy_at(healthy_at) {}

  void AdvanceTo(double now, double cpu_limit);

  void Take(const SimulatedRequest& request, double now, double cpu_limit);

  // When the next of its requests ends, as things are; infinity without one.
  double NextEnd(double cpu_limit) const;

  // That request, which ends now.
  SimulatedRequest Finish(double now, double cpu_limit);

  int in_flight() const { return static_cast<int>(running_.size()); }

  const int index;
  const uint64_t generation;
  const double started_at;
  const double healthy_at;
  ScaledInstance::Phase phase = ScaledInstance::Phase::kStarting;
  double last_activity = 0;
  double cpu_used = 0;             // core seconds, since it was set to 0
  double busy_area = 0;            // in flight * seconds, since it was set to 0
  std::deque<double> cpu_seconds;  // cpu_used of its last seconds

 private:
  struct Running {
    double end = 0;  // in its own time
    SimulatedRequest request;
    bool operator<(const Running& other) const {
      return end > other.end;
    }  // the first to end first
  };

  double Speed(double cpu_limit) const;

  std::priority_queue<Running> running_;
  double cores_ = 0;  // that the running ones want
  double own_time_ = 0;
  double at_ = 0;
};

}  // namespace ctr::policy
