#pragma once

#include "agent/base/time.h"

namespace ctr::policy {

// An instance goes behind the others when it used half a CPU or more for a while, and comes back
// when it used less than a quarter.
struct CpuRankLimits {
  double enter = 0.5;
  double leave = 0.25;
};

// Whether it is to be behind after `used` of CPU time in the last `elapsed`. One that is behind and
// gets little because others want more comes back for as long as it takes to see it at it again: it
// is never starved.
inline bool GoesBehind(bool is_behind, Duration used, Duration elapsed,
                       const CpuRankLimits& limits = {}) {
  if (elapsed <= Duration::zero()) return is_behind;
  const double cpus = static_cast<double>(used.count()) / static_cast<double>(elapsed.count());
  return cpus >= (is_behind ? limits.leave : limits.enter);
}

}  // namespace ctr::policy
