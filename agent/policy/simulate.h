#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "agent/base/time.h"
#include "agent/policy/autoscale.h"

namespace ctr::policy {

// What came to a class from `at` until the next row's; the last row holds for as long as the one
// before it, and one alone for a second.
struct TraceRow {
  double at = 0;        // seconds since the beginning, ascending
  double arrivals = 0;  // requests a second
  double service = 0;   // seconds that one takes while there is CPU enough
  double cpu = 0;       // CPU seconds that one uses
  double memory = 0;    // bytes that each healthy instance uses
};

struct SimulationConfig {
  AutoscaleConfig autoscale;
  Duration start_time = std::chrono::seconds(1);  // from the start of an instance to healthy
  double cpu_limit = 0;                           // cores of an instance; 0: no limit
  double memory_limit = 0;                        // bytes of an instance; 0: no limit
  int max_instances = 20;
  std::optional<int> host_capacity = {};
  int instances = 0;  // healthy at the beginning
  uint64_t seed = 1;  // of the moments at which requests come
};

// One second, or as many as SimulationResult says.
struct SimulationStep {
  int64_t second = 0;  // its first, since the beginning
  int arrivals = 0;
  int waited = 0;  // of them, found no place and were held
  int completed = 0;
  int desired = 0;  // as decided at its end
  int ready = 0;    // the same for these
  int starting = 0;
  int draining = 0;
  int queued = 0;
  double in_flight = 0;               // in instances, averaged over the step
  std::optional<double> latency_p50;  // seconds, of those that completed; waiting included
  std::optional<double> latency_p99;
  bool panic = false;
  std::string reason;  // of the decision
};

struct SimulationTotals {
  int64_t requests = 0;
  int64_t completed = 0;  // the rest was under way when the trace ended
  int64_t waited = 0;
  double worst_wait = 0;   // seconds in the queue
  double latency_p50 = 0;  // seconds, within half a percent
  double latency_p99 = 0;
  double instance_seconds = 0;  // from the start of each to its end
  // With as many as that second's requests need at the target, without warning and start time.
  double ideal_instance_seconds = 0;
  int starts = 0;
  int most = 0;  // instances at a time
};

struct SimulationResult {
  std::string error;         // of the trace or the configuration; then there is nothing else
  int64_t step_seconds = 1;  // more if the trace is longer than 100,000 s
  std::vector<SimulationStep> steps;
  SimulationTotals totals;
};

// What is wrong with the trace; empty if nothing is. It is of at most 31 days, 100 million
// requests, and 100,000 a second.
std::string CheckTrace(std::span<const TraceRow> trace);

// The trace against the policy, in virtual time. Requests come at random moments of their second;
// each goes to the healthy instance with the fewest in flight that has a place, or waits in one
// queue, first come, first served. Those in an instance share its CPU: when they want more than its
// limit, all slow down alike (processor sharing). The policy decides every second, and at once when
// waiting requests want more. The same seed gives the same result. It takes minutes where much
// comes, so it is made in pieces, and less than 200 MB. One thread at a time.
class Simulation {
 public:
  // `trace` outlives it.
  Simulation(std::span<const TraceRow> trace, const SimulationConfig& config);
  ~Simulation();

  // Goes on for some ten milliseconds. False: it is over.
  bool GoOn();
  // What came of it, when it is over; once.
  SimulationResult TakeResult();

 private:
  class Fleet;

  SimulationResult result_;
  std::unique_ptr<Fleet> fleet_;
};

// All of it at once.
SimulationResult Simulate(std::span<const TraceRow> trace, const SimulationConfig& config);

}  // namespace ctr::policy
