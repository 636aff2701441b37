// The steps that bring an instance up. Each leaves the instance in a state from which the policy
// can go on.
#include <algorithm>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "agent/base/duration.h"
#include "agent/base/ulid.h"
#include "agent/base/work.h"
#include "agent/control/instance.h"
#include "agent/control/recovery_record.h"
#include "agent/policy/restart.h"
#include "spdlog/spdlog.h"

namespace ctr {
namespace {

constexpr Duration kRuntimeRetry = std::chrono::milliseconds(100);
constexpr Duration kFullRetry = std::chrono::seconds(1);

Status MakeFolder(std::string path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error)
    return absl::InternalError(absl::StrCat("cannot create ", path, ": ", error.message()));
  return absl::OkStatus();
}

// The status of a start that failed, under the ingress's name for it; what a user must tell apart
// keeps its own.
Status AsStartFailure(const Status& status) {
  std::string error = ErrorCodeOf(status);
  if (error == code::kStartTimeout || error == code::kUnknownImage) return status;
  return WithDetail(
      Error(absl::StatusCode::kAborted, code::kStartFailed, std::string(status.message())),
      DetailOf(status));
}

// What `work` gives, or `late` at `deadline`; `work` is cancelled then, and undoes what it began.
template <typename T>
awaitable<T> Before(Clock& clock, MonoTime deadline, awaitable<T> work, Status late) {
  using asio::experimental::awaitable_operators::operator||;
  auto first = co_await (std::move(work) || clock.SleepUntil(deadline));
  if (first.index() == 0) co_return std::get<0>(std::move(first));
  co_return late;
}

}  // namespace

awaitable<void> Instance::Start() {
  ends_ = std::exchange(next_ends_, false);
  if (Status room = CheckRoom(); !room.ok()) {
    if (restart_due_) backoff_until_ = services_.clock.Now() + kFullRetry;
    // Not what was promised to a later agent (Supervisor::Start).
    services_.store.WriteBehind({PutObserved{name(), observed()}});
    FailWaiters(room);
    co_return;
  }
  stop_request_.reset();
  exit_.reset();
  exit_lost_ = false;
  adopted_ = start_over_ = false;
  healthy_since_.reset();
  running_config_ = class_->config;
  wanted_at_ = started_at_ = services_.clock.Now();
  Record(event::kWake, "", StartCause());
  backoff_until_.reset();
  restart_due_ = false;
  record_.observed.next_start.reset();
  SetState(State::kStarting);
  std::optional<Status> started = co_await StartWithImage();
  if (!started) {
    (co_await RemoveContainer()).IgnoreError();  // logged there
    SetStopped(StopReason::kRequested, "");
  } else if (started->ok()) {
    ProcessStarted();
  } else {
    co_await FailStart(Annotate(*started, "cannot start " + name().ToString()));
  }
}

Status Instance::CheckRoom() const {
  const ClassConfig& config = *class_->config;
  const int others = class_->live - (state() == State::kStopped ? 0 : 1);
  if (others >= config.max_instances) {
    return Error(
        absl::StatusCode::kResourceExhausted, code::kMaxInstances,
        absl::StrCat("cannot start ", name().ToString(), ": ", others, " instances of class ",
                     config.name, " are live and max_instances is ", config.max_instances,
                     "; stop one or raise max_instances"));
  }
  if (AwaitsRoom()) {
    return Error(absl::StatusCode::kResourceExhausted, code::kDiskFull,
                 absl::StrCat("cannot start ", name().ToString(),
                              ": it was stopped when the disk ran full, and it still is; make "
                              "room, or let it go with what it wrote: ctr destroy ",
                              name().ToString()));
  }
  return absl::OkStatus();
}

awaitable<std::optional<Status>> Instance::StartWithImage() {
  using asio::experimental::awaitable_operators::operator||;
  std::optional<Status> started = co_await StartInTurn();
  const bool lacks_image = started && absl::IsNotFound(*started) &&
                           ErrorCodeOf(*started) == code::kUnknownImage &&
                           running_config_->pull_policy != PullPolicy::kNever;
  if (!lacks_image) co_return started;
  StatusOr<std::string> image = ImageReferenceOf(*running_config_);
  if (!image.ok()) co_return image.status();
  auto ended = co_await (services_.ensure_image(*std::move(image)) || UntilUnwanted());
  if (ended.index() == 1) co_return std::nullopt;
  if (Status pulled = std::get<0>(std::move(ended)); !pulled.ok()) co_return pulled;
  co_return co_await StartInTurn();
}

awaitable<void> Instance::UntilUnwanted() {
  while (!stop_request_ && !destroy_requested_) {
    co_await services_.clock.SleepUntil(services_.clock.Now() + kRuntimeRetry);
  }
}

awaitable<std::optional<Status>> Instance::StartInTurn() {
  Semaphore::Permit permit = co_await services_.start_queue.Acquire();
  if (stop_request_ || destroy_requested_) co_return std::nullopt;
  permitted_at_ = services_.clock.Now();
  // As the class is by now, all of it: it may change while the start goes on.
  begun_ = true;
  running_config_ = class_->config;
  record_.observed.revision = class_->revision;
  start_deadline_ = permitted_at_ + running_config_->start_timeout;
  Status started = co_await StartContainer(class_->record);
  // A stop ends the wait for a runtime that is away; that is no failure of the start.
  if (absl::IsUnavailable(started) && (stop_request_ || destroy_requested_)) co_return std::nullopt;
  co_return started;
}

// Who asked first.
std::string Instance::StartCause() const {
  for (const Waiter* waiter : waiters_) {
    if (waiter->wants_start) return waiter->cause;
  }
  return start_requested_ ? start_cause_ : "its restart policy";
}

awaitable<Status> Instance::StartContainer(ClassRecord class_record) {
  Observed& observed = record_.observed;
  CTR_CO_ASSIGN_OR_RETURN(observed.generation,
                          co_await services_.cluster.Acquire(
                              name(), std::max(observed.generation, newest_generation_)));
  Record(event::kStarting, absl::StrCat("start ", observed.generation));
  CTR_CO_RETURN_IF_ERROR(
      co_await OnWork(services_.work, [folder = LogPath()] { return MakeFolder(folder); }));
  CTR_CO_ASSIGN_OR_RETURN(std::string image, ImageReferenceOf(*running_config_));
  StatusOr<Container> made = absl::UnavailableError("");
  // A runtime that is away comes back: containerd is started again when it ends. For a disk that is
  // full there is the reserve.
  bool reserve_used = false;
  while (absl::IsUnavailable(made.status()) && !stop_request_ && !destroy_requested_) {
    observed.container_id = NewUlid(services_.clock.Wall());
    made =
        co_await Before(services_.clock, start_deadline_,
                        services_.runtime.Create(SpecOf(class_record, image)), StartTimeoutError());
    if (IsDiskFull(made.status()) && !std::exchange(reserve_used, true)) {
      co_await services_.disk.NoteRefused();
      made = absl::UnavailableError("");
      continue;
    }
    const MonoTime again = services_.clock.Now() + kRuntimeRetry;
    if (!absl::IsUnavailable(made.status()) || again >= start_deadline_) break;
    co_await services_.clock.SleepUntil(again);
  }
  CTR_CO_ASSIGN_OR_RETURN(container_, std::move(made));
  services_.on_changed(name());  // what it keeps on a disk is measured before it writes
  created_at_ = services_.clock.Now();
  // Nobody need have told us that it was moved. A kept disk's digest need not be what it means.
  if (running_config_ == class_->config && running_config_->disk != Disk::kKeep) {
    class_->NoteImage(container_->image_digest, permitted_at_);
  }
  probe_ = services_.probe(*container_);
  co_return co_await Before(services_.clock, start_deadline_, StartProcess(), StartTimeoutError());
}

// The runtime's answer takes its time; a port that listens says as well that the process runs.
awaitable<Status> Instance::StartProcess() {
  using asio::experimental::awaitable_operators::operator||;
  auto first = co_await (services_.runtime.Start(container_->id) || UntilListening());
  co_return first.index() == 0 ? std::get<0>(std::move(first)) : absl::OkStatus();
}

awaitable<void> Instance::UntilListening() {
  const MonoTime begin = services_.clock.Now();
  const bool has_ports = !running_config_->required_ports.empty();
  while (!has_ports || !RequiredPortsListen()) {
    const MonoTime now = services_.clock.Now();
    co_await services_.clock.SleepUntil(has_ports ? now + policy::ProbeInterval(now - begin)
                                                  : MonoTime::max());
  }
}

ContainerSpec Instance::SpecOf(const ClassRecord& class_record, std::string image) const {
  const ClassConfig& config = *running_config_;
  ContainerSpec spec;
  spec.id = observed().container_id;
  spec.name = name();
  spec.generation = observed().generation;
  spec.revision = observed().revision;
  spec.image = std::move(image);
  spec.entrypoint = record_.entrypoint ? record_.entrypoint : config.entrypoint;
  spec.command = record_.command;
  spec.env = config.env;
  for (const auto& [key, value] : record_.env) spec.env[key] = value;
  spec.env["CTR_CLASS"] = name().class_name;
  spec.env["CTR_ID"] = name().id;
  spec.user = config.user;
  spec.workdir = config.workdir;
  spec.hostname = name().id;
  spec.resources = config.resources;
  spec.nofile = config.nofile;
  spec.read_only = config.read_only;
  spec.volumes = config.volumes;
  spec.security = config.security;
  spec.internet = config.internet;
  spec.keep_disk = config.disk == Disk::kKeep;
  spec.record = EncodeRecoveryRecord(class_record, record_);
  spec.log = {LogPath(), config.log};
  return spec;
}

void Instance::ProcessStarted() {
  started_at_ = services_.clock.Now();
  if (!probe_) probe_ = services_.probe(*container_);
  SpawnOrDie(services_.executor, WatchExit(container_->id), "exit of " + name().ToString());
  if (running_config_->readiness.check != ReadinessConfig::Check::kListening) {
    readiness_ = policy::NewReadiness(started_at_);
    readiness_.passed_once = start_over_;
    SpawnOrDie(services_.executor, KeepChecking(container_->id),
               "readiness of " + name().ToString());
  }
  SetState(State::kRunning);
  Record(event::kRunning);
}

// Of one start; a check is no activity, and wakes nothing.
awaitable<void> Instance::KeepChecking(std::string container_id) {
  auto self = shared_from_this();
  const ReadinessConfig& config = running_config_->readiness;
  const policy::ReadinessThresholds thresholds{.interval = config.interval,
                                               .timeout = config.timeout,
                                               .failures = config.failures,
                                               .successes = config.successes,
                                               .restart_after = config.restart_after};
  const auto runs = [&] {
    const bool up = state() == State::kRunning || state() == State::kHealthy;
    return up && container_ && container_->id == container_id && !exit_;
  };
  const std::shared_ptr<const ClassConfig> kept = running_config_;  // which `config` is of
  while (runs()) {
    const MonoTime now = services_.clock.Now();
    const std::optional<MonoTime> next = policy::NextCheckAt(readiness_, thresholds, true, now);
    if (!next || *next > now || services_.held) {
      co_await services_.clock.SleepUntil(services_.held ? now + config.interval
                                                         : next.value_or(now + config.interval));
      continue;
    }
    policy::Check check;
    check.begun = now;
    CheckOutcome outcome = co_await services_.check(
        {.container_id = container_id, .endpoint = CurrentEndpoint(), .readiness = config});
    if (!runs()) co_return;
    check.result = outcome.result;
    if (!outcome.why.empty()) check_told_ = std::move(outcome.why);
    check.ended = services_.clock.Now();
    const bool passed_before = readiness_.passing;
    readiness_ = policy::WithCheck(readiness_, check, thresholds);
    if (readiness_.passing != passed_before) NotePassing();
    if (!policy::WantsRestart(readiness_, thresholds)) continue;
    const std::string cause = absl::StrCat("its readiness check failed ", readiness_.failures,
                                           " times in a row (restart_after): ", check_told_);
    RequestStop({.cause = cause});
    RequestStart(cause);
    co_return;
  }
}

void Instance::NotePassing() {
  if (state() == State::kHealthy) {
    slot_->load().set_passing(readiness_.passing);
    RecordPassing();
    RingAll();
    services_.on_changed(name());
  }
  Nudge();
}

void Instance::RecordPassing() {
  Record(readiness_.passing ? event::kReady : event::kUnready,
         readiness_.passing ? "passes its readiness check again"
                            : "its readiness check fails, it is not routed to: " + check_told_);
}

Endpoint Instance::CurrentEndpoint() const {
  return {.netns = container_->netns,
          .dial_loopback = running_config_->dial == Dial::kLoopback,
          .generation = observed().generation,
          .config = running_config_};
}

void Instance::MarkHealthy() {
  start_requested_ = false;
  last_seen_.clear();
  slot_->set_max_concurrency(static_cast<uint32_t>(running_config_->max_concurrency.value_or(0)));
  healthy_at_ = services_.clock.Now();
  slot_->Touch(healthy_at_);
  slot_->load().Reset();
  slot_->load().set_passing(PassesCheck());
  slot_->Open(std::make_shared<Endpoint>(CurrentEndpoint()));
  if (!adopted_) CountWake();
  SetState(State::kHealthy);
  if (record_.desired == Desired::kStopped) {
    SpawnOrDie(services_.executor, NoteWoken(shared_from_this()), "wake of " + name().ToString());
  }
  Record(event::kHealthy);
  if (!PassesCheck()) RecordPassing();
  CallHook(running_config_->hooks.on_start, "on_start");
}

void Instance::CountWake() {
  WakeTimes& times = class_->wake_times;
  const MonoTime now = services_.clock.Now();
  times.queue.Add(permitted_at_ - wanted_at_);
  times.create.Add(created_at_ - permitted_at_);
  times.start.Add(started_at_ - created_at_);
  times.ready.Add(now - started_at_);
  times.total.Add(now - wanted_at_);
}

// Woken by a request after a stop: a later agent must not take it for a half-done stop. In turn
// with what else changes the row, and not written behind: that could overtake a later change or a
// destroy.
awaitable<void> Instance::NoteWoken(std::shared_ptr<Instance> self) {
  const auto is_awake = [&] {
    return record_.desired == Desired::kStopped && state() == State::kHealthy && !stop_request_ &&
           !destroy_requested_ && !forgotten_;
  };
  while (is_awake()) {
    {
      Semaphore::Permit permit = co_await edits_.Acquire();
      if (!is_awake()) co_return;
      InstanceRecord record = record_;
      record.desired = Desired::kRunning;
      if ((co_await services_.store.Commit({PutInstance{record}})).ok()) {
        record_.desired = Desired::kRunning;
        co_return;
      }
    }
    co_await services_.clock.SleepUntil(services_.clock.Now() + kFullRetry);
  }
}

awaitable<void> Instance::FailStart(Status status, StopReason reason) {
  slot_->Close();
  SetState(State::kStopping);
  Status failure = AsStartFailure(status);
  spdlog::warn("{}", std::string(failure.message()));
  if (reason == StopReason::kOomKilled) Record(event::kOomKilled);
  Record(event::kStartFailed, std::string(failure.message()));
  ++class_->wake_times.failed;
  PlanRestart(true);
  CallHook(running_config_->hooks.on_error, "on_error");
  if (backoff_until_) {
    failure = WithRetryAfter(std::move(failure), *backoff_until_ - services_.clock.Now());
  }
  // Who waits is not kept waiting for the removal, which a runtime in trouble may take long over.
  FailWaiters(failure);
  services_.on_start_failed(name(), failure);
  (co_await RemoveContainer()).IgnoreError();  // logged there
  SetStopped(reason, std::string(failure.message()));
}

void Instance::PlanRestart(bool failed) {
  Observed& observed = record_.observed;
  const ClassConfig& config = running_config_ ? *running_config_ : *class_->config;
  const MonoTime now = services_.clock.Now();
  const bool ends = stop_request_ || destroy_requested_;
  const RestartPolicy restart = ends_ ? RestartPolicy::kNever : config.restart;
  policy::RestartPlan plan =
      policy::DecideRestart({restart, observed.failures, failed && !ends, now - started_at_});
  observed.failures = plan.failures;
  backoff_until_.reset();
  observed.next_start.reset();
  if (plan.backoff) backoff_until_ = now + *plan.backoff;
  restart_due_ = plan.restart && !ends;
  if (restart_due_) {
    observed.next_start =
        services_.clock.Wall() + std::chrono::duration_cast<WallTime::duration>(*plan.backoff);
    Record(event::kRestart, absl::StrCat("starts again in ", FormatDuration(*plan.backoff),
                                         plan.failures > 1 ? ": a crash loop" : ""));
  } else if (plan.gave_up && !ends) {
    Record(event::kGaveUp,
           absl::StrCat("not restarted any more: ", plan.failures, " starts in a row failed"));
  }
}

Status Instance::StartTimeoutError() const {
  std::string message = absl::StrCat(name().ToString(), " was not healthy in time");
  const ClassConfig& config = running_config_ ? *running_config_ : *class_->config;
  if (state() == State::kRunning && !PassesCheck() && readiness_.failures > 0) {
    absl::StrAppend(&message, " (start_timeout ", FormatDuration(config.start_timeout),
                    "): its readiness check failed ", readiness_.failures,
                    readiness_.failures == 1 ? " time: " : " times: ", check_told_,
                    "; see its output: ctr logs ", name().ToString());
    return Error(absl::StatusCode::kDeadlineExceeded, code::kStartTimeout, message);
  }
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
      absl::StrAppend(&message, "; see its output: ctr logs ", name().ToString());
    }
  }
  return Error(absl::StatusCode::kDeadlineExceeded, code::kStartTimeout, message);
}

Status Instance::ExitedEarlyError() const {
  const std::string how = exit_->oom_killed ? "was killed for want of memory (resources.memory)"
                                            : absl::StrCat("exited with status ", exit_->code);
  return Error(absl::StatusCode::kAborted, code::kStartFailed,
               absl::StrCat(name().ToString(), " ", how, " before port ",
                            absl::StrJoin(running_config_->required_ports, ", "),
                            " listened; see its output: ctr logs ", name().ToString()));
}

}  // namespace ctr
