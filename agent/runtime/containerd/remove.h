#pragma once

#include <memory>
#include <string>

#include "agent/runtime/containerd/core.h"

namespace ctr {

// Runtime::Remove: task, container, snapshot and cgroup, whichever of them there are.
// A kept disk stays.
awaitable<Status> RemoveContainer(std::shared_ptr<Core> core, std::string id);

}  // namespace ctr
