#pragma once

#include <memory>
#include <string>
#include <vector>

#include "agent/runtime/containerd/core.h"

namespace ctr {

// Runtime::WaitExit and Runtime::List.
awaitable<StatusOr<ContainerExit>> WaitForExit(std::shared_ptr<Core> core, std::string id);
awaitable<StatusOr<std::vector<Container>>> ListContainers(std::shared_ptr<Core> core);

}  // namespace ctr
