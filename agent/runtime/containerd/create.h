#pragma once

#include <memory>

#include "agent/runtime/containerd/core.h"

namespace ctr {

// Runtime::Create. Not to be cancelled: run it Shielded, so that what was begun is undone.
awaitable<StatusOr<Container>> CreateContainer(std::shared_ptr<Core> core, ContainerSpec spec);

}  // namespace ctr
