#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/model/reference.h"
#include "agent/runtime/runtime.h"

namespace ctr {

// A runtime in memory. Tests say what fails, what listens and when a process ends; it records what
// was asked of it.
class FakeRuntime final : public Runtime {
 public:
  struct Entry {
    Container container;
    ContainerSpec spec;
    std::optional<ContainerExit> exit;
    std::set<uint16_t> listening;
    std::vector<int> signals;
    ResourceUsage usage;
    bool behind = false;
    DiskAmount disk;
  };

  struct ExecEntry {
    std::string container_id;
    ExecSpec spec;
    std::vector<int> signals;
    bool input_closed = false;
    std::optional<int> exit_code;
    bool gone = false;  // nobody holds it any more
  };

  FakeRuntime(asio::any_io_executor executor, Clock& clock)
      : executor_(std::move(executor)), clock_(clock) {}

  // Behaviour, set by tests.
  std::set<std::string> images = {"docker.io/library/demo:latest"};
  std::map<std::string, std::string> digests;   // of `images`; "" unless it is here
  std::map<std::string, std::string> registry;  // what can be pulled, with its digest
  bool hold_pull = false;                       // PullImage waits until Release()
  bool hold_named = false;                      // so does it once it has set the names
  bool hold_prune = false;                      // so does PruneImages, before each image
  Status create_error;
  Status start_error;
  Status remove_error;
  Status exec_error;
  Status behind_error;
  bool hold_create = false;     // Create waits until Release()
  bool hold_start = false;      // so does Start, with the process running
  bool hold_remove = false;     // so does Remove
  bool listen_at_start = true;  // 8080 listens as soon as the process runs
  bool exit_on_sigterm = true;
  std::optional<ContainerExit> exit_at_start;

  DiskSpace space = {.total_bytes = int64_t{100} << 30, .free_bytes = int64_t{50} << 30};
  std::function<void()> before_measuring;  // once, when disks are measured

  std::map<InstanceName, std::string> disks;         // with their records
  std::map<InstanceName, DiskAmount> disk_amounts;   // what is on them before a start
  std::map<InstanceName, std::string> disk_digests;  // of the images that they were made from

  // Record.
  std::map<std::string, Entry> containers;
  std::vector<std::shared_ptr<ExecEntry>> execs;
  int creates = 0;
  int starts = 0;
  int sweeps = 0;
  int pulls = 0;
  int left_pulls = 0;  // whose callers went away
  bool reconnected = false;

  void Release() {
    hold_create = false;
    hold_start = false;
    hold_remove = false;
    hold_pull = false;
    hold_named = false;
    hold_prune = false;
    RingAll();
  }
  // The one container there is.
  Entry& Only() { return containers.begin()->second; }
  void Exit(const std::string& id, ContainerExit exit) {
    Entry& entry = containers.at(id);
    entry.exit = exit;
    entry.container.phase = ContainerPhase::kExited;
    RingAll();
  }

  // It is gone, and nobody knows how it ended.
  void Lose(const std::string& id) {
    containers.erase(id);
    RingAll();
  }

  awaitable<StatusOr<Container>> Create(ContainerSpec spec) override {
    ++creates;
    const std::string digest = digests[spec.image];
    while (hold_create) co_await Change();
    if (!create_error.ok()) co_return create_error;
    Entry entry;
    entry.container.id = spec.id;
    entry.container.name = spec.name;
    entry.container.generation = spec.generation;
    entry.container.revision = spec.revision;
    entry.container.image_digest =
        spec.keep_disk ? disk_digests.try_emplace(spec.name, digest).first->second : digest;
    entry.container.record = spec.record;
    entry.spec = spec;
    if (spec.keep_disk) {
      disks.try_emplace(spec.name, spec.record);
      entry.disk = disk_amounts[spec.name];
    }
    containers[spec.id] = entry;
    co_return entry.container;
  }

  awaitable<Status> Start(std::string id) override {
    if (!start_error.ok()) co_return start_error;
    ++starts;
    Entry& entry = containers.at(id);
    entry.container.phase = ContainerPhase::kRunning;
    if (listen_at_start) entry.listening.insert(8080);
    if (exit_at_start) Exit(id, *exit_at_start);
    while (hold_start) co_await Change();
    co_return absl::OkStatus();
  }

  awaitable<Status> Signal(std::string id, int signal) override {
    auto found = containers.find(id);
    if (found == containers.end()) co_return absl::NotFoundError("no container");
    found->second.signals.push_back(signal);
    if (signal == 9) Exit(id, {.code = 137});
    if (signal == 15 && exit_on_sigterm) Exit(id, {.code = 143});
    co_return absl::OkStatus();
  }

  awaitable<StatusOr<ContainerExit>> WaitExit(std::string id) override {
    for (;;) {
      auto found = containers.find(id);
      if (found == containers.end()) co_return absl::NotFoundError("no container");
      if (found->second.exit) co_return *found->second.exit;
      co_await Change();
    }
  }

  awaitable<Status> Remove(std::string id) override {
    if (!remove_error.ok()) co_return remove_error;
    while (hold_remove) co_await Change();
    containers.erase(id);
    RingAll();
    co_return absl::OkStatus();
  }

  // A process that has no streams and ends when the test says so, or by a signal.
  class FakeExec final : public ExecProcess {
   public:
    FakeExec(FakeRuntime& runtime, std::shared_ptr<ExecEntry> entry)
        : runtime_(runtime), entry_(std::move(entry)) {}
    ~FakeExec() override { entry_->gone = true; }

    ExecStreams TakeStreams() override { return {}; }
    Status Signal(int signal) override {
      if (entry_->exit_code) return absl::NotFoundError("the process has exited");
      entry_->signals.push_back(signal);
      entry_->exit_code = 128 + signal;
      runtime_.RingAll();
      return absl::OkStatus();
    }
    awaitable<Status> Resize(TerminalSize size) override {
      entry_->spec.terminal = size;
      co_return absl::OkStatus();
    }
    awaitable<Status> CloseInput() override {
      entry_->input_closed = true;
      co_return absl::OkStatus();
    }
    awaitable<StatusOr<int>> WaitExit() override {
      while (!entry_->exit_code) co_await runtime_.Change();
      co_return *entry_->exit_code;
    }

   private:
    FakeRuntime& runtime_;
    const std::shared_ptr<ExecEntry> entry_;
  };

  awaitable<StatusOr<std::unique_ptr<ExecProcess>>> Exec(std::string id, ExecSpec spec) override {
    auto found = containers.find(id);
    if (found == containers.end() || found->second.exit) {
      co_return absl::NotFoundError("no container");
    }
    if (!exec_error.ok()) co_return exec_error;
    execs.push_back(std::make_shared<ExecEntry>());
    execs.back()->container_id = id;
    execs.back()->spec = std::move(spec);
    co_return std::make_unique<FakeExec>(*this, execs.back());
  }

  awaitable<StatusOr<std::vector<Container>>> List() override {
    std::vector<Container> all;
    for (const auto& [id, entry] : containers) all.push_back(entry.container);
    co_return all;
  }

  awaitable<StatusOr<std::vector<KeptDisk>>> ListDisks() override {
    std::vector<KeptDisk> all;
    for (const auto& [name, record] : disks) all.push_back({name, record});
    co_return all;
  }
  awaitable<Status> RemoveDisk(InstanceName name) override {
    disks.erase(name);
    disk_digests.erase(name);
    co_return absl::OkStatus();
  }
  awaitable<StatusOr<std::vector<std::string>>> Sweep(IsAlive) override {
    ++sweeps;
    co_return std::vector<std::string>();
  }
  awaitable<void> AwaitReconnect() override {
    while (!std::exchange(reconnected, false)) co_await Change();
  }
  void Reconnect() {
    reconnected = true;
    RingAll();
  }
  StatusOr<ContainerFiles> Files(const std::string& id) const override {
    if (!containers.contains(id)) return absl::NotFoundError("no container");
    return absl::UnimplementedError("a fake container has no files");
  }
  awaitable<StatusOr<DiskSpace>> Space() override { co_return space; }
  awaitable<std::map<std::string, DiskAmount>> MeasureDisks(std::vector<std::string> ids) override {
    if (auto happens = std::exchange(before_measuring, nullptr)) happens();
    std::map<std::string, DiskAmount> amounts;
    for (const std::string& id : ids) {
      if (auto found = containers.find(id); found != containers.end()) {
        amounts[id] = found->second.disk;
      }
    }
    co_return amounts;
  }
  StatusOr<ResourceUsage> Usage(const std::string& id) const override {
    auto found = containers.find(id);
    if (found == containers.end()) return absl::NotFoundError("no container");
    return found->second.usage;
  }
  StatusOr<Duration> CpuTime(const std::string& id) const override {
    Duration all{0};
    for (const auto& [one, entry] : containers) all += entry.usage.cpu_time;
    if (id.empty()) return all;
    CTR_ASSIGN_OR_RETURN(ResourceUsage usage, Usage(id));
    return usage.cpu_time;
  }
  Status SetBehind(const std::string& id, bool behind) override {
    auto found = containers.find(id);
    if (found == containers.end()) return absl::NotFoundError("no container");
    CTR_RETURN_IF_ERROR(behind_error);
    found->second.behind = behind;
    return absl::OkStatus();
  }

  awaitable<Status> CheckImage(std::string reference) override {
    if (images.contains(reference)) co_return absl::OkStatus();
    co_return Error(absl::StatusCode::kNotFound, code::kUnknownImage, "no image " + reference);
  }
  awaitable<StatusOr<std::vector<std::string>>> ImportImages(UniqueFd, std::string name,
                                                             MakeImageRoom make_room) override {
    if (make_room) CTR_CO_RETURN_IF_ERROR(co_await make_room(0));
    if (!name.empty() && !SaysWhich(name)) name += ":latest";
    images.insert(name);
    co_return std::vector<std::string>{name};
  }
  awaitable<StatusOr<PulledImage>> PullImage(PullRequest request, ReportPull) override {
    ++pulls;
    struct Leaving {
      int& left;
      bool over = false;
      ~Leaving() { left += over ? 0 : 1; }
    } leaving{left_pulls};
    while (hold_pull) co_await Change();
    leaving.over = true;
    auto found = registry.find(request.reference);
    if (found == registry.end()) {
      co_return Error(absl::StatusCode::kNotFound, code::kUnknownImage, "the registry lacks it");
    }
    PulledImage pulled{request.reference, found->second};
    std::shared_ptr<void> named;
    if (request.before_naming) {
      CTR_CO_ASSIGN_OR_RETURN(named, request.before_naming(pulled));
    }
    images.insert(request.reference);
    if (request.pin) images.insert(AtDigest(request.reference, found->second));
    while (hold_named) co_await Change();
    co_return pulled;
  }
  awaitable<StatusOr<PrunedImages>> PruneImages(PruneRequest request) override {
    PrunedImages pruned;
    for (const std::string& image : std::set<std::string>(images)) {
      while (hold_prune) co_await Change();
      if (request.used().contains(image)) continue;
      images.erase(image);
      pruned.references.push_back(image);
    }
    co_return pruned;
  }
  awaitable<StatusOr<std::vector<ImageSummary>>> ListImages() override {
    std::vector<ImageSummary> summaries;
    for (const std::string& image : images) {
      summaries.push_back({.reference = image, .digest = digests[image], .created_at = {}});
    }
    co_return summaries;
  }
  awaitable<Status> RemoveImage(std::string reference) override {
    images.erase(reference);
    co_return absl::OkStatus();
  }
  std::string Describe() const override { return "fake"; }
  std::vector<std::string> Warnings() const override { return {}; }

 private:
  awaitable<void> Change() {
    auto alarm = std::shared_ptr<Alarm>(clock_.MakeAlarm(executor_));
    alarms_.push_back(alarm);
    co_await alarm->WaitUntil(MonoTime::max());
  }
  void RingAll() {
    for (auto& alarm : std::exchange(alarms_, {})) alarm->Ring();
  }

  const asio::any_io_executor executor_;
  Clock& clock_;
  std::vector<std::shared_ptr<Alarm>> alarms_;
};

}  // namespace ctr
