#include "agent/policy/overload.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace ctr::policy {
namespace {

// Leaves below that much of what it enters above.
constexpr double kLeave = 0.9;

struct Symptom {
  OverloadCause cause;
  std::optional<double> value;
  double limit;

  bool known() const { return value && std::isfinite(*value); }
  bool above() const { return known() && *value > limit; }
  bool below() const { return known() && *value < kLeave * limit; }
};

std::array<Symptom, 5> SymptomsOf(const OverloadSample& sample, const OverloadLimits& limits) {
  return {{{OverloadCause::kCpu, sample.cpu, limits.cpu},
           {OverloadCause::kMemory, sample.memory, limits.memory},
           {OverloadCause::kCpuPressure, sample.cpu_pressure, limits.cpu_pressure},
           {OverloadCause::kMemoryPressure, sample.memory_pressure, limits.memory_pressure},
           {OverloadCause::kInFlight, sample.in_flight, limits.in_flight}}};
}

}  // namespace

Overload NextOverload(const Overload& before, const OverloadSample& sample,
                      const OverloadLimits& limits) {
  OverloadCause cause = OverloadCause::kNone;
  bool any_known = false;
  bool all_below = true;
  for (const Symptom& symptom : SymptomsOf(sample, limits)) {
    if (symptom.above() && cause == OverloadCause::kNone) cause = symptom.cause;
    any_known |= symptom.known();
    const bool needed = symptom.known() || symptom.cause == before.cause;
    if (needed && !symptom.below()) all_below = false;
  }
  if (!any_known) return before;

  const int samples = std::max(limits.samples, 1);
  Overload next = before;
  if (!before.overloaded) {
    next.above = cause == OverloadCause::kNone ? 0 : before.above + 1;
    if (next.above >= samples) next = {.overloaded = true, .cause = cause};
    return next;
  }
  if (cause != OverloadCause::kNone) next.cause = cause;
  next.below = all_below ? before.below + 1 : 0;
  if (next.below >= samples) next = {};
  return next;
}

std::optional<double> CpuShare(Duration cpu_time, Duration elapsed, double limit_cpus,
                               double host_cpus) {
  if (elapsed <= Duration::zero() || cpu_time < Duration::zero() || !(host_cpus > 0)) {
    return std::nullopt;
  }
  const double cpus = limit_cpus > 0 ? std::min(limit_cpus, host_cpus) : host_cpus;
  return static_cast<double>(cpu_time.count()) / static_cast<double>(elapsed.count()) / cpus;
}

std::optional<double> MemoryShare(uint64_t used_bytes, uint64_t limit_bytes, uint64_t host_bytes) {
  if (host_bytes == 0 && limit_bytes == 0) return std::nullopt;
  uint64_t bytes = limit_bytes != 0 ? limit_bytes : host_bytes;
  if (host_bytes != 0) bytes = std::min(bytes, host_bytes);
  return static_cast<double>(used_bytes) / static_cast<double>(bytes);
}

std::optional<double> InFlightShare(uint64_t in_flight, uint32_t max_concurrency) {
  if (max_concurrency == 0) return std::nullopt;
  return static_cast<double>(in_flight) / max_concurrency;
}

}  // namespace ctr::policy
