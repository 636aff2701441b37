#include "agent/control/instance.h"

#include <signal.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/base/ulid.h"
#include "agent/base/work.h"
#include "agent/control/recovery_record.h"
#include "spdlog/spdlog.h"

namespace ctr {
namespace {

// "exited with status 1", "start_failed: …".
std::string WhyStopped(const Observed& observed) {
  if (!observed.message.empty()) return observed.message;
  std::string why(ToString(observed.reason));
  if (observed.exit_code) absl::StrAppend(&why, " with status ", *observed.exit_code);
  return why;
}

// What a container was started with: its record tells, where its class has been changed since.
std::shared_ptr<const ClassConfig> ConfigOf(const Container& container,
                                            const ClassState& class_state) {
  if (container.revision == class_state.revision) return class_state.config;
  StatusOr<RecoveryRecord> record = DecodeRecoveryRecord(container.record);
  if (record.ok()) {
    return std::make_shared<const ClassConfig>(std::move(record->class_record.config));
  }
  spdlog::warn("{}: goes on with its class as it is now: {}", container.name.ToString(),
               std::string(record.status().message()));
  return class_state.config;
}

// A request has woken it after it was stopped, and it was not healthy yet: only then its row says
// that it is to run.
bool IsJustWoken(const Container& container, const Observed& seen) {
  if (seen.state == State::kHealthy && container.generation == seen.generation) return false;
  const StatusOr<RecoveryRecord> record = DecodeRecoveryRecord(container.record);
  return record.ok() && record->woken;
}

}  // namespace

ListenFunction ProbeByNetlink(const Container& container) {
  if (!container.netns) return nullptr;
  StatusOr<ListenProbe> probe = ListenProbe::In(*container.netns);
  if (!probe.ok()) {
    spdlog::error("{}: cannot look at its sockets: {}", container.name.ToString(),
                  std::string(probe.status().message()));
    return nullptr;
  }
  auto shared = std::make_shared<ListenProbe>(std::move(*probe));
  return [shared] { return shared->List(); };
}

// Keeps a Waiter in its instance's list for as long as the coroutine waits, also when it is
// cancelled.
class Instance::Waiting {
 public:
  // `cause`: why it wants the instance to start; none: it only looks on.
  Waiting(Instance* instance, std::optional<std::string> cause) : instance_(instance) {
    waiter_.alarm = instance->services_.clock.MakeAlarm(instance->services_.executor);
    waiter_.wants_start = cause.has_value();
    waiter_.cause = std::move(cause).value_or("");
    position_ = instance->waiters_.insert(instance->waiters_.end(), &waiter_);
  }
  Waiting(const Waiting&) = delete;
  ~Waiting() {
    instance_->held_bytes_ -= waiter_.bytes;
    instance_->waiters_.erase(position_);
  }

  // What the request keeps in memory meanwhile; once.
  void Hold(size_t bytes) {
    waiter_.bytes = bytes;
    instance_->held_bytes_ += bytes;
  }

  Waiter* operator->() { return &waiter_; }

  // The one place where a caller that goes away takes its coroutine with it.
  awaitable<void> Until(MonoTime time) {
    co_await AllowCancellation(true);
    co_await waiter_.alarm->WaitUntil(time);
    co_await AllowCancellation(false);
  }

 private:
  Instance* const instance_;
  Waiter waiter_;
  std::list<Waiter*>::iterator position_;
};

Visit::Visit(std::shared_ptr<Instance> instance)
    : instance_(std::move(instance)), container_id_(instance_->container_->id) {
  ++instance_->visits_;
}

Visit::~Visit() {
  if (!instance_) return;
  --instance_->visits_;
  instance_->slot_->Touch(instance_->services_.clock.Now());
  instance_->Nudge();
}

Instance::Instance(InstanceServices& services, std::shared_ptr<ClassState> class_state,
                   InstanceRecord record)
    : services_(services),
      class_(std::move(class_state)),
      slot_(std::make_shared<Slot>(record.name)),
      alarm_(services.clock.MakeAlarm(services.executor)),
      edits_(services.executor, services.clock, 1),
      record_(std::move(record)),
      hook_turn_(services.executor, services.clock, 1) {}

std::string Instance::LogPath() const {
  return absl::StrCat(services_.log_dir, "/", name().class_name, "/", name().id);
}

std::optional<MonoTime> Instance::SleepsAt() const {
  if (state() != State::kHealthy || !Idle()) return std::nullopt;
  return policy::SleepsAt(ViewIdle(), services_.clock.Now());
}

policy::IdleView Instance::ViewIdle() const {
  const ClassConfig& config = *running_config_;
  policy::IdleView idle{config.sleep_after, !Idle(), slot_->last_activity()};
  // When one of those sleeps that it scales is the autoscaler's to say.
  if (class_->config->autoscale && RoutedIndexOf(name().id)) idle.sleep_after.reset();
  if (slot_->tunnels() > 0) {
    idle.tcp_idle = config.tcp_idle ? config.tcp_idle : config.sleep_after;
    idle.last_tunnel_activity = slot_->last_tunnel_activity();
  }
  return idle;
}

void Instance::ReplaceRecord(InstanceRecord record) {
  record.observed = record_.observed;
  record_ = std::move(record);
}

void Instance::SetCommitted(const Status& status) {
  committed_ = status.ok();
  if (!status.ok()) {
    forgotten_ = true;
    FailWaiters(status);
  }
  RingAll();
}

awaitable<Status> Instance::AwaitCommitted() {
  auto self = shared_from_this();
  Waiting waiting(this, std::nullopt);
  while (!committed_ && !forgotten_) co_await waiting->alarm->WaitUntil(MonoTime::max());
  co_return waiting->failure.value_or(absl::OkStatus());
}

bool Instance::Outdated() const {
  return state() != State::kStopped && (observed().revision != class_->revision || RunsOldImage());
}

bool Instance::RunsOldImage() const {
  return container_ && observed().revision == class_->revision &&
         !container_->image_digest.empty() && !class_->image_digest.empty() &&
         container_->image_digest != class_->image_digest;
}

void Instance::Adopt(Container container, const Observed& seen) {
  Observed& observed = record_.observed;
  const bool same_start = container.generation == seen.generation;
  const bool stopping = same_start && seen.state == State::kStopping;
  adopted_ = true;
  start_over_ = same_start && seen.state == State::kHealthy;
  if (start_over_) healthy_since_ = seen.since;
  observed.container_id = container.id;
  observed.generation = container.generation;
  observed.revision = container.revision;
  running_config_ = ConfigOf(container, *class_);
  begun_ = true;
  container_ = std::move(container);
  start_deadline_ =
      start_over_ ? MonoTime::max() : services_.clock.Now() + running_config_->start_timeout;
  SetState(State::kStarting);
  Record(event::kAdopted, absl::StrCat("container ", container_->id));
  ProcessStarted();
  const bool to_run = record_.desired == Desired::kRunning ||
                      (record_.desired == Desired::kStopped && IsJustWoken(*container_, seen));
  if (stopping || !to_run) {
    stop_request_ =
        IsStoppedForDisk(seen, record_.desired)
            ? StopRequest{.cause = seen.message, .reason = StopReason::kDiskFull, .at_once = true}
            : StopRequest{.cause = "a stop that an earlier agent began"};
  }
  Nudge();
}

void Instance::Resume(bool was_live) {
  Observed& observed = record_.observed;
  if (state() != State::kStopped) return;
  if (was_live && record_.desired == Desired::kStopped) observed.reason = StopReason::kRequested;
  if (record_.desired != Desired::kRunning) return;
  if (was_live) {
    if (observed.reason != StopReason::kDiskFull) {
      Record(event::kLost, "its container is gone; the host may have been restarted");
    }
    started_at_ = services_.clock.Now();
    PlanRestart(true);
    services_.store.WriteBehind({PutObserved{name(), observed}});
  } else if (observed.next_start) {
    const Duration left = *observed.next_start - services_.clock.Wall();
    backoff_until_ = services_.clock.Now() + std::max(left, Duration::zero());
    restart_due_ = true;
  }
  Nudge();
}

void Instance::NoteGeneration(uint64_t generation) {
  newest_generation_ = std::max(newest_generation_, generation);
  record_.observed.generation = std::max(record_.observed.generation, generation);
}

std::vector<std::string> Instance::ContainerIds() const {
  std::vector<std::string> ids;
  if (!observed().container_id.empty()) ids.push_back(observed().container_id);
  for (const auto& [id, blocks] : removing_) ids.push_back(id);
  return ids;
}

void Instance::ForgiveFailures() {
  backoff_until_.reset();
  restart_due_ = false;
  record_.observed.failures = 0;
  record_.observed.next_start.reset();
}

awaitable<Status> Instance::EnsureHealthy(MonoTime deadline, std::string cause) {
  auto self = shared_from_this();
  Waiting waiting(this, std::move(cause));
  const uint64_t generation = observed().generation;
  for (;;) {
    if (waiting->failure) co_return *waiting->failure;
    if (state() == State::kHealthy) co_return absl::OkStatus();
    // A job may have ended before this coroutine ran again.
    if (class_->config->IsJob() && observed().generation > generation &&
        state() == State::kStopped) {
      co_return absl::OkStatus();
    }
    if (services_.clock.Now() >= deadline) co_return StartTimeoutError();
    Nudge();
    co_await waiting.Until(deadline);
  }
}

awaitable<StatusOr<Passage>> Instance::Admit(MonoTime deadline, std::string cause, size_t bytes) {
  auto self = shared_from_this();
  if (waiters_.size() >= kHoldLimit || held_bytes_ + bytes > kHoldBytes) {
    co_return Error(
        absl::StatusCode::kResourceExhausted, code::kQueueFull,
        absl::StrCat(waiters_.size(), " requests of ", held_bytes_, " bytes already wait for ",
                     name().ToString(), "; try again later"));
  }
  Waiting waiting(this, std::move(cause));
  waiting->is_request = true;
  waiting.Hold(bytes);
  for (;;) {
    if (waiting->failure) co_return *waiting->failure;
    if (state() == State::kHealthy) {
      Slot::Entry entry = slot_->Enter();
      if (entry == Slot::Entry::kEntered)
        co_return Passage(slot_, slot_->endpoint(), services_.now);
      if (entry == Slot::Entry::kFull) {
        co_return Error(absl::StatusCode::kResourceExhausted, code::kOverloaded,
                        absl::StrCat(name().ToString(),
                                     " has max_concurrency requests in flight; try again later"));
      }
    }
    if (!start_requested_) CTR_CO_RETURN_IF_ERROR(CheckMayStart());
    CTR_CO_RETURN_IF_ERROR(CheckBackoff());
    if (services_.clock.Now() >= deadline) co_return StartTimeoutError();
    Nudge();
    co_await waiting.Until(deadline);
  }
}

awaitable<StatusOr<Visit>> Instance::AdmitVisit(MonoTime deadline, std::string cause) {
  CTR_CO_RETURN_IF_ERROR(CheckMayVisit());
  if (!AwaitsRoom()) ForgiveFailures();
  if (state() != State::kHealthy) {
    CTR_CO_RETURN_IF_ERROR(co_await EnsureHealthy(deadline, std::move(cause)));
  }
  if (!container_) {
    co_return Error(absl::StatusCode::kFailedPrecondition, code::kConflict,
                    absl::StrCat(name().ToString(), " has already ended"));
  }
  co_return Visit(shared_from_this());
}

Status Instance::CheckMayStart() const {
  if (state() != State::kStopped || !class_->config->manual_start) return absl::OkStatus();
  return Error(
      absl::StatusCode::kFailedPrecondition, code::kManualStart,
      absl::StrCat(name().ToString(),
                   " is stopped and its class says manual_start; start it with: ctr start ",
                   name().ToString()));
}

Status Instance::CheckMayVisit() const {
  if (state() == State::kStopped && class_->config->IsJob() && observed().generation > 0) {
    return Error(absl::StatusCode::kFailedPrecondition, code::kConflict,
                 absl::StrCat(name().ToString(),
                              " is a job that has ended; only get, start and run start it again"));
  }
  return CheckMayStart();
}

Status Instance::CheckBackoff() const {
  if (state() != State::kStopped || !backoff_until_ || observed().failures < 2) {
    return absl::OkStatus();
  }
  const Duration left = *backoff_until_ - services_.clock.Now();
  if (left <= Duration::zero()) return absl::OkStatus();
  const int64_t seconds = std::chrono::ceil<std::chrono::seconds>(left).count();
  return WithRetryAfter(
      Error(absl::StatusCode::kAborted, code::kStartFailed,
            absl::StrCat(name().ToString(), " is in a crash loop: ", observed().failures,
                         " starts in a row failed (", WhyStopped(observed()), "); try again in ",
                         seconds, " s, or now: ctr start ", name().ToString())),
      left);
}

void Instance::RequestStart(std::string cause) {
  if (!start_requested_) start_cause_ = std::move(cause);
  start_requested_ = true;
  Nudge();
}

void Instance::RequestStop(StopRequest request) {
  start_requested_ = false;
  ForgiveFailures();
  if (state() == State::kStopped) {
    services_.store.WriteBehind({PutObserved{name(), observed()}});
    return;
  }
  stop_request_ = request;
  Nudge();
}

bool Instance::StopForDisk(const std::string& container_id, std::string message) {
  if (!container_ || container_->id != container_id || exit_ || !hurry_.empty()) return false;
  if (stop_request_ || state() == State::kStopping) {
    hurry_ = std::move(message);
  } else {
    stop_request_ =
        StopRequest{.cause = std::move(message), .reason = StopReason::kDiskFull, .at_once = true};
  }
  Nudge();
  return true;
}

void Instance::RequestDestroy(std::string cause) {
  if (!destroy_requested_) destroy_cause_ = std::move(cause);
  destroy_requested_ = true;
  Nudge();
}

awaitable<Status> Instance::AwaitState(std::function<bool(const Instance&)> reached,
                                       MonoTime deadline) {
  auto self = shared_from_this();
  Waiting waiting(this, std::nullopt);
  while (!reached(*this)) {
    if (waiting->failure && forgotten_) co_return *waiting->failure;
    if (services_.clock.Now() >= deadline) {
      co_return absl::DeadlineExceededError(
          absl::StrCat("timed out: ", name().ToString(), " is ", std::string(ToString(state()))));
    }
    co_await waiting.Until(deadline);
  }
  co_return absl::OkStatus();
}

Status Instance::Renew(std::string cause) {
  if (state() != State::kHealthy && state() != State::kRunning) {
    return Error(absl::StatusCode::kFailedPrecondition, code::kConflict,
                 absl::StrCat(name().ToString(), " is ", std::string(ToString(state())),
                              ": it has no idle timer to renew; start it with: ctr get ",
                              name().ToString()));
  }
  slot_->Touch(services_.clock.Now());
  Record(event::kRenewed, "", std::move(cause));
  return absl::OkStatus();
}

void Instance::Nudge() {
  alarm_->Ring();
  if (converging_) return;
  converging_ = true;
  SpawnOrDie(services_.executor, Run(shared_from_this()), "instance " + name().ToString());
}

void Instance::CloseGate() { slot_->Close(); }

void Instance::ReopenGate() {
  if (state() == State::kHealthy) slot_->Reopen();
  RingAll();
  Nudge();
}

// While another agent takes over, and after, a job's course is still told to those who run it.
bool Instance::MayPerform(policy::Step step) const {
  if (!services_.held) return true;
  return class_->config->IsJob() &&
         (step == policy::Step::kMarkHealthy || step == policy::Step::kReap);
}

bool Instance::StartWanted() const {
  const bool refusing = !CheckBackoff().ok();
  return start_requested_ ||
         std::any_of(waiters_.begin(), waiters_.end(), [refusing](const Waiter* waiter) {
           return waiter->wants_start && !waiter->failure && !(waiter->is_request && refusing);
         });
}

policy::LifecycleView Instance::View() {
  policy::LifecycleView view;
  view.state = state();
  view.start_wanted = StartWanted();
  view.stop_wanted = stop_request_.has_value();
  view.destroy_wanted = destroy_requested_;
  view.end_blocked = !removing_.empty();
  view.start_blocked = std::any_of(removing_.begin(), removing_.end(),
                                   [](const auto& removal) { return removal.second; });
  if (restart_due_) view.restart_at = backoff_until_;
  view.exited = exit_.has_value();
  view.started_at = started_at_;
  view.start_deadline = start_deadline_;
  if (state() == State::kRunning) {
    // Whose start was over before goes on as it is, as soon as it is known how.
    view.listening = start_over_ ? IsCheckKnown() : RequiredPortsListen() && PassesCheck();
  }
  if (state() == State::kHealthy) {
    view.idle = ViewIdle();
    if (cpu_looked_at_) {
      view.look_at = *cpu_looked_at_ + policy::CpuSampleInterval(*running_config_->sleep_after);
    }
  }
  return view;
}

// Using more of a core than busy_cpu is activity.
void Instance::LookAtCpu() {
  const MonoTime now = services_.clock.Now();
  const ClassConfig& config = *running_config_;
  if (!config.busy_cpu || !config.sleep_after) return;
  if (cpu_looked_at_ && now < *cpu_looked_at_ + policy::CpuSampleInterval(*config.sleep_after)) {
    return;
  }
  StatusOr<ResourceUsage> usage = services_.runtime.Usage(container_->id);
  if (usage.ok()) {
    if (cpu_looked_at_ &&
        policy::IsBusy(usage->cpu_time - cpu_time_, now - *cpu_looked_at_, *config.busy_cpu)) {
      slot_->Touch(now);
    }
    cpu_time_ = usage->cpu_time;
  }
  cpu_looked_at_ = now;
}

bool Instance::PassesCheck() const {
  return running_config_->readiness.check == ReadinessConfig::Check::kListening ||
         readiness_.passing;
}

bool Instance::IsCheckKnown() const {
  return running_config_->readiness.check == ReadinessConfig::Check::kListening ||
         readiness_.last.has_value();
}

bool Instance::RequiredPortsListen() {
  const std::vector<uint16_t>& required = running_config_->required_ports;
  if (required.empty()) return true;
  if (!probe_) return false;
  StatusOr<std::vector<ListeningSocket>> sockets = probe_();
  if (!sockets.ok()) return false;
  last_seen_ = std::move(*sockets);
  const bool dial_loopback = running_config_->dial == Dial::kLoopback;
  return std::all_of(required.begin(), required.end(), [&](uint16_t port) {
    return std::any_of(last_seen_.begin(), last_seen_.end(), [&](const ListeningSocket& socket) {
      bool reachable =
          socket.any_address ||
          (dial_loopback ? socket.loopback : socket.ipv4 == NetworkNamespace::kInstanceAddress);
      return socket.port == port && reachable;
    });
  });
}

// Keeps it alive from the start: it may be forgotten before this runs.
awaitable<void> Instance::Run(std::shared_ptr<Instance> self) {
  while (!forgotten_) {
    if (state() == State::kHealthy) LookAtCpu();
    policy::LifecyclePlan plan = policy::DecideLifecycle(View(), services_.clock.Now());
    if (plan.step != policy::Step::kNone && MayPerform(plan.step)) {
      co_await Perform(plan.step);
    } else if (services_.held) {
      co_await alarm_->WaitUntil(MonoTime::max());
    } else if (state() == State::kStopped && !plan.check_at) {
      break;
    } else {
      co_await alarm_->WaitUntil(plan.check_at.value_or(MonoTime::max()));
    }
  }
  converging_ = false;
}

awaitable<void> Instance::Perform(policy::Step step) {
  switch (step) {
    case policy::Step::kNone:
      break;
    case policy::Step::kStart:
      co_await Start();
      break;
    case policy::Step::kMarkHealthy:
      MarkHealthy();
      break;
    case policy::Step::kFailStart:
      co_await FailStart(StartTimeoutError());
      break;
    case policy::Step::kReap:
      co_await Reap();
      break;
    case policy::Step::kSleep:
      co_await Sleep();
      break;
    case policy::Step::kStop:
      co_await StopAsRequested();
      break;
    case policy::Step::kKill:
      co_await Kill();
      break;
    case policy::Step::kForget:
      co_await Forget();
      break;
  }
}

awaitable<void> Instance::StopAsRequested() {
  StopRequest request = *std::exchange(stop_request_, std::nullopt);
  const StopReason reason = request.reason;
  co_await StopContainer(std::move(request), reason);
}

void Instance::SetState(State to) {
  Observed& observed = record_.observed;
  if (observed.state == to) return;
  if (!CanTransition(observed.state, to)) {
    spdlog::critical("{}: no transition from {} to {}", name().ToString(), ToString(observed.state),
                     ToString(to));
    std::abort();
  }
  if (observed.state == State::kStopped) ++class_->live;
  if (to == State::kStopped) --class_->live;
  observed.state = to;
  observed.since = services_.clock.Wall();
  if (to == State::kHealthy) {
    observed.since = std::exchange(healthy_since_, std::nullopt).value_or(observed.since);
  }
  spdlog::debug("{}: {}", name().ToString(), ToString(to));
  services_.store.WriteBehind({PutObserved{name(), observed}});
  RingAll();
  services_.on_changed(name());
}

void Instance::SetStopped(StopReason reason, std::string message) {
  Observed& observed = record_.observed;
  observed.reason = reason;
  observed.message = std::move(message);
  if (reason == StopReason::kRequested || reason == StopReason::kSlept) ForgiveFailures();
  observed.exit_code.reset();
  if (exit_ && !exit_lost_) observed.exit_code = exit_->code;
  container_.reset();
  begun_ = false;
  hurry_.clear();
  probe_ = nullptr;
  exit_.reset();
  exit_lost_ = false;
  last_seen_.clear();
  stop_request_.reset();
  cpu_looked_at_.reset();
  slot_->ForgetEndpoint();
  ++stops_;
  SetState(State::kStopped);
}

void Instance::Record(std::string type, std::string message, std::string cause) {
  Event event{.type = std::move(type),
              .instance = name(),
              .generation = observed().generation,
              .message = std::move(message),
              .cause = std::move(cause)};
  if (exit_ && !exit_lost_) event.exit_code = exit_->code;
  services_.events.Record(std::move(event));
}

void Instance::FailWaiters(const Status& status) {
  start_requested_ = false;
  for (Waiter* waiter : waiters_) {
    if (waiter->wants_start || forgotten_) waiter->failure = status;
  }
  RingAll();
}

void Instance::RingAll() {
  for (Waiter* waiter : waiters_) waiter->alarm->Ring();
}

}  // namespace ctr
