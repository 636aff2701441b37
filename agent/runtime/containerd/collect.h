#pragma once

#include <memory>

#include "agent/base/asio.h"
#include "agent/base/error.h"
#include "agent/runtime/containerd/core.h"

namespace ctr {

// Has containerd delete what nothing refers to, and the folders of the snapshots that were removed;
// returns once it has.
awaitable<Status> Collect(std::shared_ptr<Core> core);

// Collects in a moment, once for all who ask until then. After each removal of a snapshot: by
// itself containerd soon collects, but it forgets a removal that comes while it deletes the folders
// of earlier ones (gc/scheduler drops events from before the last collection's end), and those of
// before it was started again, until something else is removed. The space would stay taken.
void CollectLater(std::shared_ptr<Core> core);

}  // namespace ctr
