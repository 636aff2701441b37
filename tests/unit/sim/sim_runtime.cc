#include "tests/unit/sim/sim_runtime.h"

#include <signal.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace ctr::sim {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

void RingAll(std::vector<std::shared_ptr<Alarm>>& alarms) {
  for (auto& alarm : std::exchange(alarms, {})) alarm->Ring();
}

// While it lives, a start is under way.
class Starting {
 public:
  explicit Starting(RuntimeObserver* observer) : observer_(observer) { observer_->OnStarting(+1); }
  Starting(const Starting&) = delete;
  ~Starting() { observer_->OnStarting(-1); }

 private:
  RuntimeObserver* const observer_;
};

}  // namespace

// Its contract: Create leaves nothing behind if it fails or is cancelled. What it can't undo at
// once it undoes later.
class SimRuntime::Making {
 public:
  Making(SimRuntime* runtime, const ContainerSpec& spec)
      : runtime_(runtime), id_(spec.id), name_(spec.name) {}
  Making(const Making&) = delete;
  ~Making() {
    if (kept_ || !runtime_->agent_lives_) return;
    runtime_->undoing_[id_] = name_;
    runtime_->UndoLater(id_);
  }
  void Keep() { kept_ = true; }

 private:
  SimRuntime* const runtime_;
  const std::string id_;
  const InstanceName name_;
  bool kept_ = false;
};

// Unless it is dispelled, the agent does not know whether the process was started.
class SimRuntime::Doubt {
 public:
  Doubt(SimRuntime* runtime, std::string id) : runtime_(runtime), id_(std::move(id)) {}
  Doubt(const Doubt&) = delete;
  ~Doubt() {
    Box* box = runtime_->Find(id_);
    if (!dispelled_ && runtime_->agent_lives_ && box != nullptr) box->unsure = true;
  }
  void Dispel() { dispelled_ = true; }

 private:
  SimRuntime* const runtime_;
  const std::string id_;
  bool dispelled_ = false;
};

StatusOr<std::vector<ListeningSocket>> SimRuntime::Listening(const std::string& id) const {
  std::vector<ListeningSocket> sockets;
  const Box* box = Find(id);
  if (box != nullptr && box->live() && clock_.Now() >= box->listens_at) {
    sockets.push_back({.port = 8080, .any_address = true});
  }
  return sockets;
}

void SimRuntime::Outage(Duration how_long) {
  if (away_) return;
  Trace([] { return std::string("containerd goes away"); });
  away_ = true;
  ++outages_;
  for (auto& [id, box] : boxes_) {
    if (!box->live() || !dice_.Chance(faults_.exit_lost)) continue;
    box->unsure = true;
    RingAll(box->watchers);
  }
  clock_.At(clock_.Now() + how_long, [this] {
    Trace([] { return std::string("containerd is back"); });
    away_ = false;
    RingAll(on_return_);
  });
}

void SimRuntime::Exit(const std::string& id, ContainerExit exit) {
  Box* box = Find(id);
  if (box == nullptr || !box->live()) return;
  Trace([&] {
    return absl::StrCat("process of ", box->spec.name.ToString(), " g", box->spec.generation,
                        " exits: ", exit.code, exit.oom_killed ? " oom" : "");
  });
  box->container.phase = ContainerPhase::kExited;
  box->exit = exit;
  box->exited_at = clock_.Now();
  RingAll(box->watchers);
}

Status SimRuntime::Misfortune() {
  switch (dice_.Below(3)) {
    case 0:
      return absl::UnavailableError("connection reset");
    case 1:
      return absl::DeadlineExceededError("context deadline exceeded");
    default:
      return absl::InternalError("something broke");
  }
}

awaitable<Status> SimRuntime::Call(std::string what, Duration takes,
                                   std::function<Status()> effect) {
  const bool slow = dice_.Chance(faults_.slow);
  Duration until_effect = slow ? dice_.Within(takes, seconds(4)) : dice_.Within(takes / 2, takes);
  Duration until_answer = until_effect + dice_.Within(Duration::zero(), takes / 4);
  Status error;
  if (away_ || dice_.Chance(faults_.refused)) {
    error = away_ ? absl::UnavailableError("connection refused") : Misfortune();
    effect = nullptr;
  } else if (dice_.Chance(faults_.lost_answer)) {
    error = Misfortune();
    // Before its effect or after it.
    if (dice_.Chance(0.5)) until_answer = dice_.Within(Duration::zero(), until_effect);
  }
  auto result = std::make_shared<std::optional<Status>>();
  if (effect) {
    clock_.At(clock_.Now() + until_effect,
              [this, result, outages = outages_, effect = std::move(effect)] {
                if (outages == outages_) *result = effect();
              });
  }
  co_await clock_.SleepUntil(clock_.Now() + until_answer);
  if (error.ok()) error = result->value_or(absl::UnavailableError("the connection broke"));
  if (!error.ok()) Trace([&] { return absl::StrCat(what, ": ", std::string(error.message())); });
  co_return error;
}

Box* SimRuntime::Find(const std::string& id) const {
  auto found = boxes_.find(id);
  return found == boxes_.end() ? nullptr : found->second.get();
}

awaitable<StatusOr<Container>> SimRuntime::Create(ContainerSpec spec) {
  observer_->OnCreate(spec);
  Starting starting(observer_);
  const std::string id = spec.id;
  const std::string what = absl::StrCat("create ", spec.name.ToString(), " g", spec.generation);
  Trace([&] { return what; });
  Making making(this, spec);
  auto make = [this, spec]() -> Status {
    if (undone_.contains(spec.id)) return absl::CancelledError("it was undone");
    if (spec.keep_disk) UndoAllOf(spec.name, spec.id);
    auto box = std::make_shared<Box>();
    box->number = ++count_;
    box->spec = spec;
    box->container.id = spec.id;
    box->container.name = spec.name;
    box->container.generation = spec.generation;
    box->container.revision = spec.revision;
    box->container.record = spec.record;
    boxes_[spec.id] = box;
    if (spec.keep_disk) box->made_disk = disks_.try_emplace(spec.name, spec.record).second;
    return absl::OkStatus();
  };
  Status made = co_await Call(what, milliseconds(40), std::move(make));
  Box* box = Find(id);
  if (made.ok() && box != nullptr) {
    making.Keep();
    co_return box->container;
  }
  co_return made.ok() ? absl::NotFoundError("it was removed meanwhile") : made;
}

void SimRuntime::UndoLater(const std::string& id) {
  Duration delay = dice_.Chance(faults_.slow) ? dice_.Within(seconds(5), seconds(40)) : seconds(5);
  clock_.At(clock_.Now() + delay, [this, id, life = life_] {
    if (life != life_) return;
    if (away_) {
      UndoLater(id);
    } else {
      Undo(id);
    }
  });
}

void SimRuntime::Undo(const std::string& id) {
  if (undoing_.erase(id) == 0) return;
  undone_.insert(id);
  Box* box = Find(id);
  if (box == nullptr) return;
  box->unsure = true;
  if (box->live()) Exit(id, {.code = 137});
  if (box->made_disk && !written_disks_.contains(box->spec.name)) disks_.erase(box->spec.name);
  Delete(id).IgnoreError();
}

void SimRuntime::UndoAllOf(const InstanceName& name, const std::string& but) {
  std::vector<std::string> ids;
  for (const auto& [id, of] : undoing_) {
    if (of == name && id != but) ids.push_back(id);
  }
  for (const std::string& id : ids) Undo(id);
}

awaitable<Status> SimRuntime::Start(std::string id) {
  Starting starting(observer_);
  Doubt doubt(this, id);
  auto start = [this, id]() -> Status {
    Box* box = Find(id);
    if (box == nullptr) return absl::NotFoundError("no such container");
    if (box->container.phase != ContainerPhase::kCreated) {
      return absl::FailedPreconditionError("it was started before");
    }
    return StartProcess(*box);
  };
  Status started = co_await Call("start", milliseconds(8), std::move(start));
  // One that was cancelled is not heard of, however it ended.
  const auto cancelled = (co_await asio::this_coro::cancellation_state).cancelled();
  if (started.ok() && cancelled == asio::cancellation_type::none) doubt.Dispel();
  co_return started;
}

Status SimRuntime::StartProcess(Box& box) {
  const MonoTime now = clock_.Now();
  box.container.phase = ContainerPhase::kRunning;
  box.container.pid = static_cast<int>(box.number);
  box.started_at = now;
  if (box.spec.keep_disk) written_disks_.insert(box.spec.name);
  box.listens_at = now + dice_.Within(Duration::zero(), milliseconds(20));
  box.on_term_exits = !dice_.Chance(0.12);
  box.term_takes = dice_.Chance(0.1) ? dice_.Within(milliseconds(1), seconds(6))
                                     : dice_.Within(milliseconds(1), milliseconds(30));
  Trace([&] {
    return absl::StrCat("process of ", box.spec.name.ToString(), " g", box.spec.generation,
                        " runs");
  });
  observer_->OnStarted(box);
  if (!dice_.Chance(faults_.process)) return absl::OkStatus();
  switch (dice_.Below(5)) {
    case 0:
      box.listens_at = MonoTime::max();
      break;
    case 1:
      box.listens_at = now + dice_.Within(milliseconds(20), seconds(4));
      break;
    case 2:
      ExitAt(now + dice_.Within(Duration::zero(), milliseconds(30)), box.spec.id,
             {.code = dice_.Below(2)});
      break;
    case 3:
      ExitAt(now + dice_.Within(Duration::zero(), seconds(60)), box.spec.id,
             {.code = dice_.Below(3)});
      break;
    default:
      ExitAt(now + dice_.Within(Duration::zero(), seconds(30)), box.spec.id,
             {.code = 137, .oom_killed = true});
  }
  return absl::OkStatus();
}

void SimRuntime::ExitAt(MonoTime time, const std::string& id, ContainerExit exit) {
  clock_.At(time, [this, id, exit] { Exit(id, exit); });
}

awaitable<Status> SimRuntime::Signal(std::string id, int signal) {
  if (Box* box = Find(id); box != nullptr) observer_->OnSignal(*box, signal);
  auto send = [this, id, signal]() -> Status {
    Box* box = Find(id);
    if (box == nullptr || !box->live()) return absl::NotFoundError("no such process");
    SignalProcess(*box, signal);
    return absl::OkStatus();
  };
  return Call(absl::StrCat("signal ", signal), milliseconds(4), std::move(send));
}

void SimRuntime::SignalProcess(Box& box, int signal) {
  const MonoTime now = clock_.Now();
  if (!box.signalled_at) box.signalled_at = now;
  if (signal == SIGKILL) {
    // In an uninterruptible sleep it takes its time.
    Duration takes = dice_.Chance(faults_.stubborn)
                         ? dice_.Within(seconds(1), seconds(15))
                         : dice_.Within(milliseconds(1), milliseconds(4));
    ExitAt(now + takes, box.spec.id, {.code = 137});
  } else if (box.on_term_exits) {
    ExitAt(now + box.term_takes, box.spec.id, {.code = 128 + signal});
  }
}

awaitable<StatusOr<ContainerExit>> SimRuntime::WaitExit(std::string id) {
  const int outages = outages_;
  for (;;) {
    std::shared_ptr<Alarm> alarm = clock_.MakeAlarm(co_await asio::this_coro::executor);
    if (away_) {
      auto found = boxes_.find(id);
      if (found != boxes_.end() && found->second->unsure && outages != outages_) {
        co_return absl::InternalError("the wait broke");
      }
      on_return_.push_back(alarm);
      co_await alarm->WaitUntil(MonoTime::max());
      continue;
    }
    auto found = boxes_.find(id);
    if (found == boxes_.end()) co_return absl::NotFoundError("no such task");
    if (found->second->exit) break;
    found->second->watchers.push_back(alarm);
    co_await alarm->WaitUntil(MonoTime::max());
  }
  ContainerExit exit = *boxes_.at(id)->exit;
  Duration late = dice_.Chance(faults_.slow) ? dice_.Within(milliseconds(1), seconds(3))
                                             : dice_.Within(milliseconds(1), milliseconds(8));
  co_await clock_.SleepUntil(clock_.Now() + late);
  co_return exit;
}

awaitable<Status> SimRuntime::Remove(std::string id) {
  if (Box* box = Find(id); box != nullptr) observer_->OnRemove(*box);
  auto remove = [this, id]() -> Status {
    Box* box = Find(id);
    if (box == nullptr) return absl::OkStatus();
    if (!box->live()) return Delete(id);
    // It kills, and deletes what has died by then.
    if (dice_.Chance(faults_.stubborn)) {
      SignalProcess(*box, SIGKILL);
      return absl::DeadlineExceededError("it does not die");
    }
    Exit(id, {.code = 137});
    if (dice_.Chance(faults_.refused)) return absl::InternalError("device or resource busy");
    return Delete(id);
  };
  return Call("remove", milliseconds(20), std::move(remove));
}

Status SimRuntime::Delete(const std::string& id) {
  auto found = boxes_.find(id);
  if (found == boxes_.end()) return absl::OkStatus();
  Trace([&] {
    return absl::StrCat("container of ", found->second->spec.name.ToString(), " g",
                        found->second->spec.generation, " is gone");
  });
  std::shared_ptr<Box> box = found->second;
  boxes_.erase(found);
  RingAll(box->watchers);
  return absl::OkStatus();
}

awaitable<StatusOr<std::vector<Container>>> SimRuntime::List() {
  auto all = std::make_shared<std::vector<Container>>();
  auto look = [this, all]() -> Status {
    std::vector<const Box*> boxes;
    for (const auto& [id, box] : boxes_) boxes.push_back(box.get());
    std::sort(boxes.begin(), boxes.end(),
              [](const Box* a, const Box* b) { return a->number < b->number; });
    for (size_t i = 1; i < boxes.size(); ++i) {
      std::swap(boxes[i], boxes[dice_.Below(static_cast<int>(i) + 1)]);
    }
    for (const Box* box : boxes) all->push_back(box->container);
    return absl::OkStatus();
  };
  CTR_CO_RETURN_IF_ERROR(co_await Call("list", milliseconds(10), std::move(look)));
  for (const Container& container : *all) {
    if (const Box* box = Find(container.id); box != nullptr) observer_->OnListed(*box);
  }
  co_return std::move(*all);
}

awaitable<StatusOr<std::vector<KeptDisk>>> SimRuntime::ListDisks() {
  auto all = std::make_shared<std::vector<KeptDisk>>();
  auto look = [this, all]() -> Status {
    for (const auto& [name, record] : disks_) all->push_back({name, record});
    return absl::OkStatus();
  };
  CTR_CO_RETURN_IF_ERROR(co_await Call("list disks", milliseconds(4), std::move(look)));
  co_return std::move(*all);
}

awaitable<Status> SimRuntime::RemoveDisk(InstanceName name) {
  observer_->OnRemoveDisk(name);
  auto remove = [this, name]() -> Status {
    UndoAllOf(name, "");
    for (const auto& [id, box] : boxes_) {
      if (box->spec.name == name && box->spec.keep_disk) {
        return absl::FailedPreconditionError("a container uses it");
      }
    }
    disks_.erase(name);
    written_disks_.erase(name);
    return absl::OkStatus();
  };
  return Call("remove disk", milliseconds(4), std::move(remove));
}

awaitable<StatusOr<std::unique_ptr<ExecProcess>>> SimRuntime::Exec(std::string, ExecSpec) {
  co_return absl::UnimplementedError("no processes beside the first one here");
}

awaitable<StatusOr<std::vector<std::string>>> SimRuntime::Sweep(IsAlive) {
  CTR_CO_RETURN_IF_ERROR(co_await Call("sweep", milliseconds(10), [] { return absl::OkStatus(); }));
  co_return std::vector<std::string>();
}

awaitable<void> SimRuntime::AwaitReconnect() {
  const int outages = outages_;
  while (away_ || outages == outages_) {
    std::shared_ptr<Alarm> alarm = clock_.MakeAlarm(co_await asio::this_coro::executor);
    on_return_.push_back(alarm);
    co_await alarm->WaitUntil(MonoTime::max());
  }
}

StatusOr<ResourceUsage> SimRuntime::Usage(const std::string& id) const {
  const Box* box = Find(id);
  if (box == nullptr || !box->live()) return absl::NotFoundError("no such process");
  return ResourceUsage();
}

awaitable<Status> SimRuntime::CheckImage(std::string) {
  return Call("check image", milliseconds(2), [] { return absl::OkStatus(); });
}

awaitable<StatusOr<std::vector<std::string>>> SimRuntime::ImportImages(UniqueFd, std::string,
                                                                       MakeImageRoom) {
  co_return absl::UnimplementedError("no images here");
}
awaitable<StatusOr<PulledImage>> SimRuntime::PullImage(PullRequest, ReportPull) {
  co_return absl::UnimplementedError("no registry here");
}
awaitable<StatusOr<PrunedImages>> SimRuntime::PruneImages(PruneRequest) {
  co_return PrunedImages();
}
awaitable<StatusOr<std::vector<ImageSummary>>> SimRuntime::ListImages() {
  co_return std::vector<ImageSummary>();
}
awaitable<Status> SimRuntime::RemoveImage(std::string) {
  co_return absl::UnimplementedError("no images here");
}

}  // namespace ctr::sim
