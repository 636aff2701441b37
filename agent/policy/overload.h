#pragma once

#include <cstdint>
#include <optional>

#include "agent/base/time.h"

namespace ctr::policy {

// What an instance uses, of what it may: 1 is all. Nothing where it is not known.
struct OverloadSample {
  std::optional<double> cpu = {};
  std::optional<double> memory = {};
  // The share of time in which all its tasks that could run were waiting: "full avg10" of its
  // cgroup's cpu.pressure and memory.pressure, divided by 100. "some" would be a sign of any
  // program with more threads than it has CPUs. (Linux, Documentation/accounting/psi.rst.)
  std::optional<double> cpu_pressure = {};
  std::optional<double> memory_pressure = {};
  std::optional<double> in_flight = {};
};

// Above one of these for a while: overloaded.
struct OverloadLimits {
  double cpu = 0.9;              // max_cpu
  double memory = 0.95;          // max_memory
  double cpu_pressure = 0.5;     // half of the time it had work and no CPU
  double memory_pressure = 0.1;  // it waits for its own memory: thrashing begins
  double in_flight = 0.99;       // as good as all of max_concurrency is in flight
  int samples = 3;               // that many in a row, to enter as to leave
};

enum class OverloadCause { kNone, kCpu, kMemory, kCpuPressure, kMemoryPressure, kInFlight };

// A value; begins anew with each start of the instance.
struct Overload {
  bool overloaded = false;
  OverloadCause cause = OverloadCause::kNone;  // the newest, while overloaded
  int above = 0;  // samples in a row with something above its limit, while not overloaded
  int below = 0;  // samples in a row with all below 90 % of theirs, while overloaded
};

// The state after one more sample. It is overloaded after `samples` in a row with something above
// its limit, and no longer after as many with everything below 90 % of it (in between neither count
// goes on), so that a value near the limit does not flap. What is not known is neither above nor,
// if it is the cause, below: a metric that is lost does not end an overload that it began. That
// none is left to route to is for Choose to see.
Overload NextOverload(const Overload& before, const OverloadSample& sample,
                      const OverloadLimits& limits = {});

// CPU time used in `elapsed` as a share of what it may use: its own limit in CPUs, or if it has
// none (0) or more than the host, the host's. Nothing if the times or CPUs make no sense.
std::optional<double> CpuShare(Duration cpu_time, Duration elapsed, double limit_cpus,
                               double host_cpus);
// The same of memory. `used_bytes` is without what the kernel drops first (memory.current less
// inactive_file), or every instance that reads files would seem full.
std::optional<double> MemoryShare(uint64_t used_bytes, uint64_t limit_bytes, uint64_t host_bytes);
// The same of requests; nothing without max_concurrency (0).
std::optional<double> InFlightShare(uint64_t in_flight, uint32_t max_concurrency);

}  // namespace ctr::policy
