// The steps of an instance's life that take time. Each leaves the instance in a state from which
// the policy can go on.
#include <signal.h>

#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "agent/base/ulid.h"
#include "agent/control/instance.h"
#include "agent/control/work.h"
#include "agent/model/reference.h"
#include "spdlog/spdlog.h"

namespace ctr {
namespace {

constexpr Duration kDrainPoll = std::chrono::milliseconds(5);
constexpr Duration kKillPatience = std::chrono::seconds(10);
constexpr Duration kRemoveRetry = std::chrono::seconds(1);

Status MakeFolder(std::string path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error)
    return absl::InternalError(absl::StrCat("cannot create ", path, ": ", error.message()));
  return absl::OkStatus();
}

Status RemoveFolder(std::string path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  if (error)
    return absl::InternalError(absl::StrCat("cannot remove ", path, ": ", error.message()));
  return absl::OkStatus();
}

// The status of a start that failed, under the ingress's name for it; what a user must tell apart
// keeps its own.
Status AsStartFailure(const Status& status) {
  std::string error = ErrorCodeOf(status);
  if (error == code::kStartTimeout || error == code::kUnknownImage) return status;
  return Error(absl::StatusCode::kAborted, code::kStartFailed, std::string(status.message()));
}

}  // namespace

awaitable<void> Instance::Start() {
  const ClassConfig& config = *class_->config;
  if (class_->live >= config.max_instances) {
    FailWaiters(
        Error(absl::StatusCode::kResourceExhausted, code::kMaxInstances,
              absl::StrCat("cannot start ", name().ToString(), ": ", class_->live,
                           " instances of class ", config.name, " are live and max_instances is ",
                           config.max_instances, "; stop one or raise max_instances")));
    co_return;
  }
  stop_request_.reset();
  exit_.reset();
  adopted_ = false;
  running_config_ = class_->config;
  SetState(State::kStarting);
  Semaphore::Permit permit = co_await services_.start_queue.Acquire();
  if (stop_request_ || destroy_requested_) {
    SetStopped(StopReason::kRequested, "");
    co_return;
  }
  start_deadline_ = services_.clock.Now() + running_config_->start_timeout;
  Status started = co_await StartContainer();
  if (!started.ok()) {
    co_await FailStart(Annotate(started, "cannot start " + name().ToString()));
    co_return;
  }
  ProcessStarted();
}

awaitable<Status> Instance::StartContainer() {
  Observed& observed = record_.observed;
  CTR_CO_ASSIGN_OR_RETURN(observed.generation,
                          co_await services_.cluster.Acquire(name(), observed.generation));
  observed.container_id = NewUlid(services_.clock.Wall());
  observed.revision = class_->revision;
  std::string log_path = LogPath();
  CTR_CO_RETURN_IF_ERROR(
      co_await OnWork(services_.work, [log_path] { return MakeFolder(log_path); }));

  const ClassConfig& config = *running_config_;
  CTR_CO_ASSIGN_OR_RETURN(std::string image, NormalizeReference(config.image));
  ContainerSpec spec;
  spec.id = observed.container_id;
  spec.name = name();
  spec.generation = observed.generation;
  spec.revision = observed.revision;
  spec.image = std::move(image);
  spec.entrypoint = record_.entrypoint ? record_.entrypoint : config.entrypoint;
  spec.command = record_.command;
  spec.env = config.env;
  for (const auto& [key, value] : record_.env) spec.env[key] = value;
  spec.env["CTR_CLASS"] = name().class_name;
  spec.env["CTR_ID"] = name().id;
  spec.hostname = name().id;
  spec.resources = config.resources;
  spec.nofile = config.nofile;
  spec.read_only = config.read_only;
  spec.keep_disk = config.disk == Disk::kKeep;
  spec.log = {std::move(log_path), config.log};
  CTR_CO_ASSIGN_OR_RETURN(container_, co_await services_.runtime.Create(std::move(spec)));
  co_return co_await services_.runtime.Start(container_->id);
}

void Instance::ProcessStarted() {
  started_at_ = services_.clock.Now();
  probe_ = services_.probe(*container_);
  SpawnOrDie(services_.executor, WatchExit(container_->id), "exit of " + name().ToString());
  SetState(State::kRunning);
}

void Instance::MarkHealthy() {
  start_requested_ = false;
  last_seen_.clear();
  auto endpoint = std::make_shared<Endpoint>();
  endpoint->netns = container_->netns;
  endpoint->dial_loopback = running_config_->dial == Dial::kLoopback;
  endpoint->generation = observed().generation;
  slot_->set_max_concurrency(static_cast<uint32_t>(running_config_->max_concurrency.value_or(0)));
  slot_->Touch(services_.clock.Now());
  if (record_.desired == Desired::kStopped) {  // woken by a request: a later agent must not take it
                                               // for a half-done stop
    record_.desired = Desired::kRunning;
    services_.store.WriteBehind({PutInstance{record_}});
  }
  slot_->Open(std::move(endpoint));
  SetState(State::kHealthy);
}

awaitable<void> Instance::FailStart(Status status) {
  slot_->Close();
  if (state() != State::kStarting) SetState(State::kStopping);
  (co_await RemoveContainer()).IgnoreError();  // logged there
  Status failure = AsStartFailure(status);
  spdlog::warn("{}", std::string(failure.message()));
  SetStopped(StopReason::kStartFailed, std::string(failure.message()));
  FailWaiters(failure);
}

awaitable<void> Instance::Reap() {
  if (state() == State::kRunning && !adopted_ && !running_config_->IsJob()) {
    co_await FailStart(ExitedEarlyError());
    co_return;
  }
  slot_->Close();
  StopReason reason = exit_->oom_killed ? StopReason::kOomKilled : StopReason::kExited;
  spdlog::info("{}: exited with status {}", name().ToString(), exit_->code);
  RemoveContainerLater();
  SetStopped(reason, "");
}

awaitable<void> Instance::Sleep() {
  // A request that came in since the decision keeps it awake; the policy looks again.
  if (!slot_->CloseIfIdle()) co_return;
  co_await StopContainer(StopRequest(), StopReason::kSlept);
}

awaitable<void> Instance::StopContainer(StopRequest request, StopReason reason) {
  const ClassConfig& config = *running_config_;
  slot_->Close();
  SetState(State::kStopping);
  co_await AwaitDrained(services_.clock.Now() + config.drain);
  int signal = request.signal;
  if (signal == 0) signal = config.stop_signal.value_or(container_->stop_signal.value_or(SIGTERM));
  if (!exit_ && !destroy_requested_) {
    Status signalled = co_await services_.runtime.Signal(container_->id, signal);
    if (!signalled.ok() && !absl::IsNotFound(signalled)) {
      spdlog::warn("{}: signal {}: {}", name().ToString(), signal,
                   std::string(signalled.message()));
    }
    co_await AwaitExit(services_.clock.Now() + request.grace.value_or(config.stop_grace));
  }
  if (!exit_) {
    (co_await services_.runtime.Signal(container_->id, SIGKILL)).IgnoreError();
    co_await AwaitExit(services_.clock.Now() + kKillPatience);
  }
  if (reason == StopReason::kSlept) {
    RemoveContainerLater();
  } else {
    (co_await RemoveContainer()).IgnoreError();  // logged there
  }
  SetStopped(reason, "");
}

awaitable<void> Instance::AwaitDrained(MonoTime deadline) {
  while (slot_->in_flight() > 0 && !exit_ && !destroy_requested_ &&
         services_.clock.Now() < deadline) {
    co_await alarm_->WaitUntil(std::min(deadline, services_.clock.Now() + kDrainPoll));
  }
}

awaitable<void> Instance::AwaitExit(MonoTime deadline) {
  while (!exit_ && !destroy_requested_ && services_.clock.Now() < deadline)
    co_await alarm_->WaitUntil(deadline);
}

awaitable<void> Instance::Kill() {
  slot_->Close();
  SetState(State::kStopping);
  Status removed = co_await RemoveContainer();
  SetStopped(StopReason::kRequested, removed.ok() ? "" : std::string(removed.message()));
}

awaitable<void> Instance::Forget() {
  Status deleted = co_await services_.store.Commit({DeleteInstance{name()}});
  if (!deleted.ok()) {
    // Its row says that it is to be destroyed: the next start of the agent tries again.
    spdlog::error("{}: cannot forget it: {}", name().ToString(), std::string(deleted.message()));
  }
  Status removed =
      co_await OnWork(services_.work, [folder = LogPath()] { return RemoveFolder(folder); });
  if (!removed.ok()) spdlog::warn("{}", std::string(removed.message()));
  forgotten_ = true;
  services_.on_forgotten(name());
  FailWaiters(Error(absl::StatusCode::kNotFound, code::kUnknownInstance,
                    name().ToString() + " was destroyed"));
}

awaitable<Status> Instance::RemoveContainer() {
  if (observed().container_id.empty()) co_return absl::OkStatus();
  Status removed = co_await services_.runtime.Remove(observed().container_id);
  if (!removed.ok()) {
    spdlog::error("{}: cannot remove container {}: {}", name().ToString(), observed().container_id,
                  std::string(removed.message()));
    RemoveContainerLater();
  }
  record_.observed.container_id.clear();
  co_await services_.cluster.Release(name(), observed().generation);
  co_return removed;
}

// Off the path of the next wake. Tried again until it is done: a container that stays would be a
// leak.
void Instance::RemoveContainerLater() {
  struct Removal {
    static awaitable<void> Run(std::shared_ptr<Instance> self, std::string id) {
      while (!(co_await self->services_.runtime.Remove(id)).ok()) {
        co_await self->services_.clock.SleepUntil(self->services_.clock.Now() + kRemoveRetry);
      }
    }
  };
  SpawnOrDie(services_.executor, Removal::Run(shared_from_this(), observed().container_id),
             "removal");
  record_.observed.container_id.clear();
}

awaitable<void> Instance::WatchExit(std::string container_id) {
  auto self = shared_from_this();
  StatusOr<ContainerExit> exit = co_await services_.runtime.WaitExit(container_id);
  if (!container_ || container_->id != container_id) co_return;
  if (!exit.ok()) {
    spdlog::error("{}: the exit of its container was lost: {}", name().ToString(),
                  std::string(exit.status().message()));
    exit = ContainerExit{.code = 255};
  }
  exit_ = *exit;
  Nudge();
}

Status Instance::StartTimeoutError() const {
  std::string message = absl::StrCat(name().ToString(), " was not healthy in time");
  const ClassConfig& config = running_config_ ? *running_config_ : *class_->config;
  if (state() == State::kRunning && !config.required_ports.empty()) {
    absl::StrAppend(&message, " (start_timeout ",
                    config.start_timeout / std::chrono::milliseconds(1), " ms): port ",
                    absl::StrJoin(config.required_ports, ", "), " must listen");
    bool on_loopback = std::any_of(last_seen_.begin(), last_seen_.end(),
                                   [](const auto& socket) { return socket.loopback; });
    if (on_loopback && config.dial == Dial::kPrivate) {
      absl::StrAppend(
          &message,
          ", but it listens on 127.0.0.1 only; listen on 0.0.0.0 or set dial = \"loopback\"");
    } else {
      absl::StrAppend(&message, "; see its output in ", LogPath());
    }
  }
  return Error(absl::StatusCode::kDeadlineExceeded, code::kStartTimeout, message);
}

Status Instance::ExitedEarlyError() const {
  return Error(absl::StatusCode::kAborted, code::kStartFailed,
               absl::StrCat(name().ToString(), " exited with status ", exit_->code, " before port ",
                            absl::StrJoin(running_config_->required_ports, ", "),
                            " listened; see its output in ", LogPath()));
}

}  // namespace ctr
