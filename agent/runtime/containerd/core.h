#pragma once

#include <memory>
#include <optional>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "agent/base/clock.h"
#include "agent/base/gate.h"
#include "agent/base/keyed_locks.h"
#include "agent/base/pidfd.h"
#include "agent/network/egress.h"
#include "agent/runtime/containerd/cgroup.h"
#include "agent/runtime/containerd/client.h"
#include "agent/runtime/containerd/image_pulls.h"
#include "agent/runtime/containerd/image_store.h"
#include "agent/runtime/containerd/options.h"
#include "agent/runtime/oci_spec.h"

namespace ctr {

// What the runtime's operations share. Each of them is a free coroutine that keeps it alive, so
// that one may go on after the runtime is gone. Home loop: control.
struct Core {
  Core(ContainerdOptions options, Clock* clock, asio::any_io_executor control,
       asio::any_io_executor work, asio::any_io_executor transfers, Cgroups cgroups,
       OciHost host = {});

  // Of all containers together for "".
  std::string CgroupPath(const std::string& id) const;
  // The name of the agent's own cgroup among the containers'; no ID.
  static constexpr char kAgentCgroup[] = "agent";

  // Constant.
  const ContainerdOptions options;
  Clock* const clock;
  const asio::any_io_executor control;
  const asio::any_io_executor work;
  const Cgroups cgroups;
  const OciHost host;
  const ContainerdClient client;

  // Whose calls block: on the work pool.
  Egress egress;

  // On the control loop.
  ImageStore image_store;
  ImagePulls image_pulls;
  absl::flat_hash_map<std::string, std::shared_ptr<const Pidfd>>
      processes;  // first process, by container ID
  absl::flat_hash_map<std::string, std::string>
      disk_folders;  // of containers' own files, by container ID; of those that were asked about
  const std::unique_ptr<Alarm> reconnected;  // rings when containerd was away and is back
  // By container ID: held while one is made or removed, so that a removal that comes upon a
  // creation which nobody waits for any more finds all that it made. Inside of it by snapshot: held
  // while a kept disk is given to a container or removed.
  KeyedLocks containers;
  KeyedLocks disks;
  // Closed while another agent takes over: nothing is made, changed or removed then.
  Gate changes;
  // Closed until it is known whether instances can have a way out; then what is in the way of it.
  Gate egress_known;
  Status egress_status = absl::UnavailableError("it is not known yet; ask again");
  // Closed while something of the way out is looked at or changed.
  Gate egress_rests;
  bool collects = false;                // CollectLater has been asked and has not yet begun
  const std::unique_ptr<Alarm> closed;  // rings when the client has been closed
};

// The containerd namespace of an agent.
std::string ContainerdNamespace(const std::string& agent_id);

// The labels by which a container is known again.
namespace label {
inline constexpr char kAgent[] = "ctr.agent";
inline constexpr char kClass[] = "ctr.class";
inline constexpr char kId[] = "ctr.id";
inline constexpr char kGeneration[] = "ctr.generation";
inline constexpr char kRevision[] = "ctr.revision";
inline constexpr char kImageDigest[] = "ctr.image-digest";
inline constexpr char kStopSignal[] = "ctr.stop-signal";
inline constexpr char kRecord[] =
    "ctr.record.";  // 0, 1, 2 …: a piece of ContainerSpec::record each
}  // namespace label

// Holds the container's first process and its network namespace. NOT_FOUND if it has exited, or if
// the pid is another process's by now.
struct OpenedProcess {
  std::shared_ptr<const Pidfd> process;
  std::shared_ptr<const NetworkNamespace> netns;
};
StatusOr<OpenedProcess> OpenProcess(const Core& core, const std::string& id, int pid);

// The mount namespace of the container's first process. NOT_FOUND if it has exited.
StatusOr<ContainerFiles> OpenFiles(const Core& core, const std::string& id,
                                   std::shared_ptr<const Pidfd> process);

}  // namespace ctr
