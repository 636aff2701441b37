#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/model/event.h"
#include "agent/runtime/containerd/agent_threads.h"
#include "agent/runtime/containerd/options.h"
#include "agent/runtime/runtime.h"

namespace ctr {

class ContainerdProcess;
struct Core;

// Containers by containerd and runc. Containers and a private containerd go on running when it is
// destroyed, and are found again by the next one with the same options. `clock` and the executors'
// contexts outlive it; `work` is a pool for what blocks.
class ContainerdRuntime final : public Runtime {
 public:
  // Connects to the containerd that `options` name; a private one is found or started first, and
  // from then on started again whenever it ends. Returns once it answers. On `control`, which is a
  // single loop. `transfers` is a pool of some threads for registries, which may be slow; none:
  // `work`.
  static awaitable<StatusOr<std::unique_ptr<ContainerdRuntime>>> Open(
      ContainerdOptions options, Clock* clock, asio::any_io_executor control,
      asio::any_io_executor work, asio::any_io_executor transfers = {});
  ~ContainerdRuntime() override;

  // From now on instances with a way out can be made: those asked for earlier wait. Changes the
  // host, so once this is the only agent. `tell` gets an event for each instance that loses its way
  // out while it runs, or has it again. Once.
  void OpenInternet(std::function<void(Event)> tell);
  // OK if they can; what is in the way, or that it is not known yet.
  Status InternetStatus() const;

  // Any thread: the calling one carries traffic. Whoever is behind (SetBehind) is behind it, too,
  // where the kernel can have that.
  void EnlistThread();

  // For an agent that takes over: begins no change from now on, and leaves the private containerd
  // to it. What only looks, and exec, go on. Returns once nothing of the way out is being changed.
  awaitable<void> LetGo();
  // It gave up.
  void TakeBack();

  awaitable<StatusOr<Container>> Create(ContainerSpec spec) override;
  awaitable<Status> Start(std::string id) override;
  awaitable<Status> Signal(std::string id, int signal) override;
  awaitable<StatusOr<ContainerExit>> WaitExit(std::string id) override;
  awaitable<StatusOr<std::unique_ptr<ExecProcess>>> Exec(std::string id, ExecSpec spec) override;
  awaitable<Status> Remove(std::string id) override;
  awaitable<StatusOr<std::vector<Container>>> List() override;
  awaitable<StatusOr<std::vector<KeptDisk>>> ListDisks() override;
  awaitable<Status> RemoveDisk(InstanceName name) override;
  awaitable<StatusOr<std::vector<std::string>>> Sweep(IsAlive is_alive) override;
  awaitable<void> AwaitReconnect() override;
  StatusOr<ResourceUsage> Usage(const std::string& id) const override;
  StatusOr<Duration> CpuTime(const std::string& id) const override;
  Status SetBehind(const std::string& id, bool behind) override;
  awaitable<StatusOr<DiskSpace>> Space() override;
  awaitable<std::map<std::string, DiskAmount>> MeasureDisks(std::vector<std::string> ids) override;
  StatusOr<ContainerFiles> Files(const std::string& id) const override;
  awaitable<Status> CheckImage(std::string reference) override;
  awaitable<StatusOr<std::vector<std::string>>> ImportImages(UniqueFd archive, std::string name,
                                                             MakeImageRoom make_room) override;
  awaitable<StatusOr<PulledImage>> PullImage(PullRequest request, ReportPull report) override;
  awaitable<StatusOr<PrunedImages>> PruneImages(PruneRequest request) override;
  awaitable<StatusOr<std::vector<ImageSummary>>> ListImages() override;
  awaitable<Status> RemoveImage(std::string reference) override;
  std::string Describe() const override;
  std::vector<std::string> Warnings() const override;

 private:
  ContainerdRuntime(std::shared_ptr<Core> core, std::shared_ptr<ContainerdProcess> process,
                    std::string version);
  void Watch();
  void StopWatching();

  const std::shared_ptr<Core> core_;
  const std::shared_ptr<ContainerdProcess> process_;  // null: an external one
  const std::string version_;
  AgentThreads threads_;
  std::set<std::string> behind_;  // containers
  // Shared with the coroutine, which must not outlive it.
  std::shared_ptr<asio::cancellation_signal> stop_watching_;
};

}  // namespace ctr
