#pragma once

#include "agent/base/clock.h"
#include "agent/runtime/containerd/options.h"

namespace ctr {

// Ends and removes all that the runtime of these options ever made: its containers, with SIGKILL,
// and their cgroups; of somebody else's containerd our namespace with its images; a private
// containerd altogether, with its mounts, shims and folders. To be called while no
// ContainerdRuntime of the same options exists. OK if there is nothing; otherwise the first error,
// after everything else was tried. On `control`; blocks it at times.
awaitable<Status> PurgeContainerd(ContainerdOptions options, Clock* clock,
                                  asio::any_io_executor control, asio::any_io_executor work);

}  // namespace ctr
