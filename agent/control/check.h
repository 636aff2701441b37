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

struct CheckOutcome {
  policy::Check::Result result = policy::Check::Result::kFailed;
  std::string why = {};  // it did not pass: "GET :8080/healthz answered 404"
};

// Makes one check: on the control loop, within its timeout. It is none of the instance's activity.
using CheckFunction = std::function<awaitable<CheckOutcome>(CheckTarget target)>;

// Over TCP from the agent's address in the instance's network namespace, or with a process inside.
awaitable<CheckOutcome> RunCheck(Clock& clock, Runtime& runtime, CheckTarget target);

}  // namespace ctr
