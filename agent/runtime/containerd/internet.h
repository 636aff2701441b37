#pragma once

#include <functional>
#include <memory>
#include <string>

#include "agent/base/netns.h"
#include "agent/model/event.h"
#include "agent/runtime/containerd/core.h"

namespace ctr {

// Told on the control loop of instances that lose their way out while they run, and that have it
// again.
using TellInternet = std::function<void(Event)>;

// Opens the way out of instances, and from then on sees to it that its rules stay in place: looks
// every second, and where it could not be opened tries again, twice as late each time. What runs
// without rules to hold it back is cut off, and attached again once there are some. Ends with the
// client.
awaitable<void> KeepInternet(std::shared_ptr<Core> core, TellInternet tell);

// What a container with a way out is made with. Its namespace is there before its task, so that the
// interface can be made meanwhile.
struct Internet {
  std::string resolv_conf;  // to be seen as its /etc/resolv.conf
  std::shared_ptr<const NetworkNamespace> netns;

  // Where runc finds it, as long as this agent holds it.
  std::string NamespacePath() const;
};

// Waits until the way out was tried. FAILED_PRECONDITION, with what to do, where instances can't
// have one.
awaitable<StatusOr<Internet>> PrepareInternet(std::shared_ptr<Core> core);

// Makes the interface in the namespace, with which it goes.
awaitable<Status> GiveInternet(std::shared_ptr<Core> core, std::string container_id,
                               std::shared_ptr<const NetworkNamespace> netns);

// Whether a container was made with a way out, by its OCI spec: its network namespace was there
// before it.
bool IsMadeWithInternet(const std::string& oci_spec);

}  // namespace ctr
