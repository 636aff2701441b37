#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "agent/base/asio.h"
#include "agent/base/clock.h"
#include "agent/base/pidfd.h"
#include "agent/runtime/containerd/containerd_config.h"

namespace ctr {

class ContainerdClient;

// The private containerd: a process in a session of its own that outlives the agent, found again by
// the next one. Owned by the runtime; home loop: control. `clock` outlives it.
class ContainerdProcess {
 public:
  ContainerdProcess(Clock* clock, ContainerdPaths paths);

  // Takes over the containerd that an earlier agent left, or starts one, and returns once it
  // answers. Errors, each with what to do: containerd or runc is not installed, a path can't be
  // written or is too long, it ends at once.
  awaitable<Status> EnsureRunning();

  // Starts it again, with a growing pause, whenever it ends, and calls `on_back` once it answers.
  // Returns only by cancellation; `self` keeps it alive.
  static awaitable<void> KeepRunning(std::shared_ptr<ContainerdProcess> self,
                                     std::function<void()> on_back);

  // Ends it: SIGTERM, after a grace SIGKILL. OK if none runs.
  awaitable<Status> Stop();

  // The one that runs, by its pidfile or by who listens on its socket.
  StatusOr<Pidfd> Find() const;

  const ContainerdPaths& paths() const { return paths_; }

 private:
  Status Start();
  awaitable<Status> UntilReady();
  bool IsOurs(const Pidfd& process) const;

  Clock* const clock_;
  const ContainerdPaths paths_;
  std::shared_ptr<Pidfd> process_;  // null before EnsureRunning
};

}  // namespace ctr
