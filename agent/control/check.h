#pragma once

#include <functional>
#include <string>

#include "agent/base/clock.h"
#include "agent/policy/readiness.h"
#include "agent/proxy/slot.h"
#include "agent/runtime/runtime.h"

namespace ctr {

// What a readiness check is made of.
struct CheckTarget {
  std::string container_id;
  Endpoint endpoint;
  ReadinessConfig readiness;
};

// Makes one check: on the control loop, within its timeout. It is none of the instance's activity.
using CheckFunction = std::function<awaitable<policy::Check::Result>(CheckTarget target)>;

// Over TCP from the agent's address in the instance's network namespace, or with a process inside.
awaitable<policy::Check::Result> RunCheck(Clock& clock, Runtime& runtime, CheckTarget target);

}  // namespace ctr
