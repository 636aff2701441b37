#pragma once

#include <string>

#include "agent/control/supervisor.h"

namespace ctr {

// What the agent counts, in Prometheus' text format. On the control loop.
std::string MetricsText(const Supervisor& supervisor, WallTime now);

}  // namespace ctr
