// The steps that bring an instance down. Each leaves the instance in a state from which the policy
// can go on.
#include <signal.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/base/duration.h"
#include "agent/base/work.h"
#include "agent/control/instance.h"
#include "agent/control/log_files.h"
#include "spdlog/spdlog.h"

namespace ctr {
namespace {

constexpr Duration kDrainPoll = std::chrono::milliseconds(5);
constexpr Duration kTunnelQuiet = std::chrono::seconds(1);
constexpr Duration kKillPatience = std::chrono::seconds(10);
constexpr Duration kRetry = std::chrono::seconds(1);

}  // namespace

awaitable<void> Instance::Reap() {
  if (state() == State::kRunning && !adopted_ && !running_config_->IsJob()) {
    co_await FailStart(ExitedEarlyError(),
                       exit_->oom_killed ? StopReason::kOomKilled : StopReason::kStartFailed);
    co_return;
  }
  slot_->Close();
  const bool failed = exit_->code != 0;
  StopReason reason = exit_->oom_killed ? StopReason::kOomKilled : StopReason::kExited;
  std::string message;
  if (stop_request_ && stop_request_->reason == StopReason::kDiskFull) {
    // It was killed for that, maybe by an earlier agent.
    reason = StopReason::kDiskFull;
    message = std::move(stop_request_->cause);
    stop_request_.reset();
    Record(event::kDiskFull, message);
  } else if (exit_lost_) {
    reason = StopReason::kHostLost;
  } else {
    spdlog::info("{}: exited with status {}", name().ToString(), exit_->code);
    Record(exit_->oom_killed ? event::kOomKilled : event::kExited);
  }
  PlanRestart(failed);
  CallHook(failed ? running_config_->hooks.on_error : running_config_->hooks.on_stop,
           failed ? "on_error" : "on_stop");
  RemoveContainerLater();
  SetStopped(reason, std::move(message));
}

awaitable<void> Instance::Sleep() {
  if (!running_config_->hooks.on_activity_expired.empty() && !co_await MaySleep()) co_return;
  // A request that came in since the decision keeps it awake; the policy looks again.
  if (!Idle() || !slot_->CloseIfIdle()) co_return;
  co_await StopContainer(
      {.cause = absl::StrCat("no activity for ", FormatDuration(*running_config_->sleep_after))},
      StopReason::kSlept);
}

// What its hook on_activity_expired says, which anything that happens to it meanwhile overtakes.
awaitable<bool> Instance::MaySleep() {
  struct Answer {
    std::optional<Status> status;
    asio::cancellation_signal cancel;
  };
  auto answer = std::make_shared<Answer>();
  const MonoTime last_activity = slot_->last_activity();
  HookCall call = HookOf(running_config_->hooks.on_activity_expired, "on_activity_expired");
  asio::co_spawn(services_.executor, services_.run_hook(std::move(call)),
                 asio::bind_cancellation_slot(answer->cancel.slot(),
                                              [answer, self = shared_from_this()](
                                                  std::exception_ptr failure, Status status) {
                                                if (failure)
                                                  status = absl::CancelledError("overtaken");
                                                answer->status = std::move(status);
                                                self->alarm_->Ring();
                                              }));
  const auto overtaken = [&] {
    return stop_request_ || destroy_requested_ || exit_ || !Idle() ||
           slot_->last_activity() != last_activity;
  };
  while (!answer->status && !overtaken()) {
    co_await alarm_->WaitUntil(services_.clock.Now() + kRetry);
  }
  if (!answer->status) {
    answer->cancel.emit(asio::cancellation_type::terminal);
    co_return false;
  }
  if (answer->status->ok()) co_return !overtaken();
  slot_->Touch(services_.clock.Now());
  Record(event::kStayedAwake, std::string(answer->status->message()),
         "its hook on_activity_expired");
  co_return false;
}

awaitable<void> Instance::StopContainer(StopRequest request, StopReason reason) {
  const ClassConfig& config = *running_config_;
  slot_->Close();
  SetState(State::kStopping);
  Record(event::kStopping, "", request.cause);
  record_.observed.reason = reason;
  record_.observed.message = reason == StopReason::kDiskFull ? request.cause : "";
  // Else a later agent takes the end that comes now for a failure.
  co_await NoteObserved();
  if (!request.at_once) co_await AwaitDrained(services_.clock.Now() + config.drain);
  int signal = request.at_once ? SIGKILL : request.signal;
  if (signal == 0) signal = config.stop_signal.value_or(container_->stop_signal.value_or(SIGTERM));
  const Duration grace = request.grace.value_or(config.stop_grace);
  if (!exit_ && !destroy_requested_) {
    Status signalled = co_await services_.runtime.Signal(container_->id, signal);
    if (!signalled.ok() && !absl::IsNotFound(signalled)) {
      spdlog::warn("{}: signal {}: {}", name().ToString(), signal,
                   std::string(signalled.message()));
    }
    co_await AwaitExit(services_.clock.Now() + grace);
  }
  std::string message;
  if (!exit_) {
    if (!destroy_requested_) {
      message = hurry_.empty() ? absl::StrCat("did not end within ", FormatDuration(grace),
                                              " of signal ", signal, " and was killed")
                               : absl::StrCat("was killed before it ended by itself: ", hurry_);
      Record(event::kKilled, message);
    }
    (co_await services_.runtime.Signal(container_->id, SIGKILL)).IgnoreError();
    const MonoTime patience = services_.clock.Now() + kKillPatience;
    while (!exit_ && services_.clock.Now() < patience) co_await alarm_->WaitUntil(patience);
  }
  if (reason == StopReason::kSlept) {
    RemoveContainerLater();
  } else {
    (co_await RemoveContainer()).IgnoreError();  // logged there
  }
  if (reason == StopReason::kDiskFull) {
    message = std::move(request.cause);
    Record(event::kDiskFull, message);
    PlanRestart(true);
    CallHook(config.hooks.on_error, "on_error");
  } else {
    Record(reason == StopReason::kSlept ? event::kSlept : event::kStopped, message, request.cause);
    CallHook(config.hooks.on_stop, "on_stop");
  }
  SetStopped(reason, message);
}

// A connection on which nothing moves is not waited for: the program closes it when it ends.
awaitable<void> Instance::AwaitDrained(MonoTime deadline) {
  const auto serves = [this] {
    return slot_->busy() || (slot_->tunnels() > 0 &&
                             services_.clock.Now() - slot_->last_tunnel_activity() < kTunnelQuiet);
  };
  while (serves() && !IsHurried() && services_.clock.Now() < deadline) {
    co_await alarm_->WaitUntil(std::min(deadline, services_.clock.Now() + kDrainPoll));
  }
}

awaitable<void> Instance::AwaitExit(MonoTime deadline) {
  while (!IsHurried() && services_.clock.Now() < deadline) co_await alarm_->WaitUntil(deadline);
}

awaitable<void> Instance::Kill() {
  slot_->Close();
  SetState(State::kStopping);
  Status removed = co_await RemoveContainer();
  SetStopped(StopReason::kRequested, removed.ok() ? "" : std::string(removed.message()));
}

awaitable<void> Instance::Forget() {
  // Before the row goes: after a kill in between, the row has a later agent do it again.
  Status removed =
      co_await OnWork(services_.work, [folder = LogPath()] { return RemoveLogs(folder); });
  if (!removed.ok()) spdlog::warn("{}", std::string(removed.message()));
  Status gone = co_await services_.runtime.RemoveDisk(name());
  if (gone.ok()) gone = co_await services_.store.Commit({DeleteInstance{name()}});
  if (!gone.ok()) {
    if (IsDiskFull(gone)) co_await services_.disk.NoteRefused();
    // Its row says that it is to be destroyed, so that a later agent goes on with it.
    spdlog::error("{}: cannot forget it yet: {}", name().ToString(), std::string(gone.message()));
    co_await services_.clock.SleepUntil(services_.clock.Now() + kRetry);
    co_return;
  }
  forgotten_ = true;
  Record(event::kDestroyed, "", destroy_cause_);
  services_.on_forgotten(name());
  FailWaiters(Error(absl::StatusCode::kNotFound, code::kUnknownInstance,
                    name().ToString() + " was destroyed"));
}

awaitable<Status> Instance::RemoveContainer() {
  if (observed().container_id.empty()) co_return absl::OkStatus();
  const std::string id = observed().container_id;
  Status removed = co_await services_.runtime.Remove(id);
  if (!removed.ok()) {
    spdlog::error("{}: cannot remove container {}: {}", name().ToString(), id,
                  std::string(removed.message()));
    RemoveContainerLater();
  }
  record_.observed.container_id.clear();
  co_await services_.cluster.Release(name(), observed().generation);
  co_return removed;
}

// Off the path of the next wake, unless that must not run beside it. Tried again until it is done:
// a container that stays would be a leak.
void Instance::RemoveContainerLater() {
  std::string id = std::exchange(record_.observed.container_id, "");
  if (id.empty()) return;
  removing_[id] = !exit_ || exit_lost_ || running_config_->disk == Disk::kKeep;
  SpawnOrDie(services_.executor, RemoveUntilGone(std::move(id)), "removal");
}

void Instance::RemoveLeftover(std::string container_id) {
  removing_[container_id] = true;
  SpawnOrDie(services_.executor, RemoveUntilGone(std::move(container_id)), "removal");
}

awaitable<void> Instance::RemoveUntilGone(std::string container_id) {
  auto self = shared_from_this();
  // Without a container, a later agent would take one that ended for one that was lost.
  co_await NoteObserved();
  while (!(co_await services_.runtime.Remove(container_id)).ok()) {
    co_await services_.clock.SleepUntil(services_.clock.Now() + kRetry);
  }
  removing_.erase(container_id);
  Nudge();
}

// What was written behind so far is on disk when this returns, unless the disk stays full.
awaitable<void> Instance::NoteObserved() {
  // What is written behind is tried again.
  (co_await CommitWithReserve(services_.store, services_.disk, {PutObserved{name(), observed()}}))
      .IgnoreError();
}

awaitable<void> Instance::WatchExit(std::string container_id) {
  auto self = shared_from_this();
  StatusOr<ContainerExit> exit = co_await services_.runtime.WaitExit(container_id);
  if (!container_ || container_->id != container_id) co_return;
  if (!exit.ok()) {
    spdlog::error("{}: the exit of its container was lost: {}", name().ToString(),
                  std::string(exit.status().message()));
    Record(event::kLost, std::string(exit.status().message()));
    exit = ContainerExit{.code = 255};
    exit_lost_ = true;
  }
  exit_ = *exit;
  Nudge();
}

HookCall Instance::HookOf(const std::vector<std::string>& command, std::string_view hook) const {
  HookCall call{
      command,
      {{"CTR_CLASS", name().class_name}, {"CTR_ID", name().id}, {"CTR_EVENT", std::string(hook)}}};
  if (exit_) call.env["CTR_EXIT_CODE"] = absl::StrCat(exit_->code);
  return call;
}

// In its turn, beside everything else.
void Instance::CallHook(const std::vector<std::string>& command, std::string_view hook) {
  if (command.empty() || services_.held) return;
  struct Turn {
    static awaitable<void> Run(std::shared_ptr<Instance> self, HookCall call) {
      Semaphore::Permit turn = co_await self->hook_turn_.Acquire();
      Semaphore::Permit one_of_all = co_await self->services_.hook_queue.Acquire();
      const std::string hook = call.env["CTR_EVENT"];
      Status done = co_await self->services_.run_hook(std::move(call));
      if (done.ok()) {
        self->Record(event::kHook, hook);
      } else {
        spdlog::warn("{}: hook {}: {}", self->name().ToString(), hook, std::string(done.message()));
        self->Record(event::kHookFailed, absl::StrCat(hook, ": ", std::string(done.message())));
      }
    }
  };
  SpawnOrDie(services_.executor, Turn::Run(shared_from_this(), HookOf(command, hook)), "hook");
}

}  // namespace ctr
