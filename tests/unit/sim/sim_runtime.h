#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent/runtime/runtime.h"
#include "tests/unit/sim/dice.h"
#include "tests/unit/sim/sim_clock.h"

namespace ctr::sim {

// A container as the world has it, whatever the agent believes.
struct Box {
  uint64_t number = 0;  // in the order of their making
  ContainerSpec spec;
  Container container;  // phase: kCreated, kRunning, kExited
  std::optional<ContainerExit> exit;
  MonoTime exited_at;
  std::optional<MonoTime> started_at;
  MonoTime listens_at = MonoTime::max();
  bool on_term_exits = true;
  Duration term_takes = Duration::zero();
  std::optional<MonoTime> signalled_at;  // the first stop signal's effect
  bool made_disk = false;                // its kept disk was not there before
  bool unsure = false;  // an answer about it was an error: the agent may well give it up
  std::vector<std::shared_ptr<Alarm>> watchers;

  std::string Where() const {
    return spec.name.ToString() + " g" + std::to_string(spec.generation);
  }
  bool live() const { return container.phase == ContainerPhase::kRunning; }
};

// Who judges what the agent does. Called at the moment of the call, before it has any effect.
class RuntimeObserver {
 public:
  virtual ~RuntimeObserver() = default;
  virtual void OnCreate(const ContainerSpec& spec) = 0;
  virtual void OnSignal(const Box& box, int signal) = 0;
  virtual void OnRemove(const Box& box) = 0;
  virtual void OnRemoveDisk(const InstanceName& name) = 0;
  // It is in a list that the agent gets.
  virtual void OnListed(const Box& box) = 0;
  // A process has begun to run.
  virtual void OnStarted(const Box& box) = 0;
  // Create or Start: +1 as it is called, -1 as it returns.
  virtual void OnStarting(int change) = 0;
  virtual bool tracing() const = 0;
  virtual void OnTrace(const std::string& line) = 0;
};

// containerd and the processes under it. They live on when the agent is killed, and what was asked
// of them before still takes effect. Calls take time, fail before or after they took effect, answer
// late; processes listen late or never, end by themselves, ignore signals.
class SimRuntime final : public Runtime {
 public:
  SimRuntime(SimClock& clock, Dice& dice, const Faults& faults)
      : clock_(clock), dice_(dice), faults_(faults) {}
  void set_observer(RuntimeObserver* observer) { observer_ = observer; }

  const std::map<std::string, std::shared_ptr<Box>>& boxes() const { return boxes_; }
  const std::map<InstanceName, std::string>& disks() const { return disks_; }
  StatusOr<std::vector<ListeningSocket>> Listening(const std::string& id) const;
  bool away() const { return away_; }

  // The agent is killed, before its coroutines are dropped: nobody undoes what it would have
  // undone, until it is started again.
  void AgentDied() { ++life_, agent_lives_ = false, undoing_.clear(); }
  void AgentStarts() { agent_lives_ = true; }
  // It goes away, and comes back: calls in between and under way fail.
  void Outage(Duration how_long);
  void Exit(const std::string& id, ContainerExit exit);

  awaitable<StatusOr<Container>> Create(ContainerSpec spec) override;
  awaitable<Status> Start(std::string id) override;
  awaitable<Status> Signal(std::string id, int signal) override;
  awaitable<StatusOr<ContainerExit>> WaitExit(std::string id) override;
  awaitable<StatusOr<std::unique_ptr<ExecProcess>>> Exec(std::string, ExecSpec) override;
  awaitable<Status> Remove(std::string id) override;
  awaitable<StatusOr<std::vector<Container>>> List() override;
  awaitable<StatusOr<std::vector<KeptDisk>>> ListDisks() override;
  awaitable<Status> RemoveDisk(InstanceName name) override;
  awaitable<StatusOr<std::vector<std::string>>> Sweep(IsAlive is_alive) override;
  awaitable<void> AwaitReconnect() override;
  StatusOr<ResourceUsage> Usage(const std::string& id) const override;
  // It is never busy.
  StatusOr<Duration> CpuTime(const std::string&) const override { return Duration::zero(); }
  Status SetBehind(const std::string&, bool) override { return absl::OkStatus(); }
  // Its disk is without end.
  awaitable<StatusOr<DiskSpace>> Space() override { co_return DiskSpace(); }
  awaitable<std::map<std::string, DiskAmount>> MeasureDisks(std::vector<std::string>) override {
    co_return std::map<std::string, DiskAmount>();
  }
  StatusOr<ContainerFiles> Files(const std::string&) const override {
    return absl::UnimplementedError("nobody copies in the simulation");
  }
  awaitable<Status> CheckImage(std::string reference) override;
  awaitable<StatusOr<std::vector<std::string>>> ImportImages(UniqueFd, std::string,
                                                             MakeImageRoom) override;
  awaitable<StatusOr<PulledImage>> PullImage(PullRequest, ReportPull) override;
  awaitable<StatusOr<PrunedImages>> PruneImages(PruneRequest) override;
  awaitable<StatusOr<std::vector<ImageSummary>>> ListImages() override;
  awaitable<Status> RemoveImage(std::string) override;
  std::string Describe() const override { return "simulated"; }
  std::vector<std::string> Warnings() const override { return {}; }

 private:
  class Making;
  class Doubt;

  // One call: `effect` happens on the runtime's side, maybe never, maybe after the caller was told
  // of a failure.
  awaitable<Status> Call(std::string what, Duration takes, std::function<Status()> effect);
  Status Misfortune();
  Box* Find(const std::string& id) const;
  Status StartProcess(Box& box);
  void SignalProcess(Box& box, int signal);
  void ExitAt(MonoTime time, const std::string& id, ContainerExit exit);
  Status Delete(const std::string& id);
  // What a creation that failed, or that nobody waits for, came to. Nobody else is given its disk,
  // nor removes it, before that.
  void UndoLater(const std::string& id);
  void Undo(const std::string& id);
  void UndoAllOf(const InstanceName& name, const std::string& but);
  template <typename Line>
  void Trace(Line line) const {
    if (observer_->tracing()) observer_->OnTrace(line());
  }

  SimClock& clock_;
  Dice& dice_;
  const Faults& faults_;
  RuntimeObserver* observer_ = nullptr;
  std::map<std::string, std::shared_ptr<Box>> boxes_;
  std::map<InstanceName, std::string> disks_;
  std::set<InstanceName> written_disks_;         // a process has run on them
  std::map<std::string, InstanceName> undoing_;  // by container
  std::set<std::string> undone_;
  uint64_t count_ = 0;
  int life_ = 0;  // of the agent
  bool agent_lives_ = false;
  int outages_ = 0;
  bool away_ = false;
  std::vector<std::shared_ptr<Alarm>> on_return_;
};

}  // namespace ctr::sim
