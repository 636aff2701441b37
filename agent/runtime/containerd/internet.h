#pragma once

#include <memory>
#include <string>

#include "agent/base/netns.h"
#include "agent/runtime/containerd/core.h"

namespace ctr {

// Opens the way out of instances, and from then on sees to it that its rules stay in place: looks
// every second, and tries again every half a minute where it could not be opened. Ends with the
// client.
awaitable<void> KeepInternet(std::shared_ptr<Core> core);

// What a container with a way out gets as its /etc/resolv.conf. Waits until the way out was tried;
// FAILED_PRECONDITION, with what to do, where instances can't have one.
awaitable<StatusOr<std::string>> AwaitInternet(std::shared_ptr<Core> core);

// Between the task's creation and its start.
awaitable<Status> GiveInternet(std::shared_ptr<Core> core, std::string container_id,
                               std::shared_ptr<const NetworkNamespace> netns);
// OK if it has none.
awaitable<Status> TakeInternet(std::shared_ptr<Core> core, std::string container_id);

}  // namespace ctr
