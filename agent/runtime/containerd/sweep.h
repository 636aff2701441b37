#pragma once

#include <memory>
#include <string>
#include <vector>

#include "agent/runtime/containerd/core.h"
#include "agent/runtime/runtime.h"

namespace ctr {

// Runtime::Sweep. What is ours is told by labels, by the namespace and agent ID in a path, or by
// our containerd's socket on a shim's command line. Kept disks stay: control knows whose they are.
awaitable<StatusOr<std::vector<std::string>>> SweepRemains(std::shared_ptr<Core> core,
                                                           Runtime::IsAlive is_alive);

// Removes the root file systems that have no container: an agent was killed between making the two.
// Only before the first Create.
awaitable<Status> SweepSnapshots(std::shared_ptr<Core> core);

}  // namespace ctr
