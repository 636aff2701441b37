#include "agent/control/instance.h"

#include <signal.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/base/ulid.h"
#include "agent/control/work.h"
#include "spdlog/spdlog.h"

namespace ctr {
namespace {

constexpr size_t kHoldLimit = 4096;  // requests that wait for one instance

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
  Waiting(Instance* instance, bool wants_start) : instance_(instance) {
    waiter_.alarm = instance->services_.clock.MakeAlarm(instance->services_.executor);
    waiter_.wants_start = wants_start;
    position_ = instance->waiters_.insert(instance->waiters_.end(), &waiter_);
  }
  Waiting(const Waiting&) = delete;
  ~Waiting() { instance_->waiters_.erase(position_); }

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
      record_(std::move(record)) {}

std::string Instance::LogPath() const {
  return absl::StrCat(services_.log_dir, "/", name().class_name, "/", name().id);
}

std::optional<MonoTime> Instance::SleepsAt() const {
  if (state() != State::kHealthy || slot_->in_flight() > 0 || visits_ > 0) return std::nullopt;
  policy::IdleView idle{running_config_->sleep_after, false, slot_->last_activity()};
  return policy::SleepsAt(idle, services_.clock.Now());
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
  Waiting waiting(this, false);
  while (!committed_ && !forgotten_) co_await waiting->alarm->WaitUntil(MonoTime::max());
  co_return waiting->failure.value_or(absl::OkStatus());
}

void Instance::Adopt(Container container) {
  Observed& observed = record_.observed;
  adopted_ = true;
  observed.container_id = container.id;
  observed.generation = std::max(observed.generation, container.generation);
  observed.revision = container.revision;
  running_config_ = class_->config;
  container_ = std::move(container);
  start_deadline_ = services_.clock.Now() + running_config_->start_timeout;
  SetState(State::kStarting);
  ProcessStarted();
  if (record_.desired != Desired::kRunning) stop_request_.emplace();
  Nudge();
}

awaitable<Status> Instance::EnsureHealthy(MonoTime deadline) {
  auto self = shared_from_this();
  Waiting waiting(this, true);
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

awaitable<StatusOr<Passage>> Instance::Admit(MonoTime deadline) {
  auto self = shared_from_this();
  if (waiters_.size() >= kHoldLimit) {
    co_return Error(absl::StatusCode::kResourceExhausted, code::kQueueFull,
                    absl::StrCat(kHoldLimit, " requests already wait for ", name().ToString(),
                                 "; try again later"));
  }
  Waiting waiting(this, true);
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
    if (services_.clock.Now() >= deadline) co_return StartTimeoutError();
    Nudge();
    co_await waiting.Until(deadline);
  }
}

awaitable<StatusOr<Visit>> Instance::AdmitVisit(MonoTime deadline) {
  if (state() != State::kHealthy) {
    CTR_CO_RETURN_IF_ERROR(CheckMayStart());
    CTR_CO_RETURN_IF_ERROR(co_await EnsureHealthy(deadline));
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

void Instance::RequestStart() {
  start_requested_ = true;
  Nudge();
}

void Instance::RequestStop(StopRequest request) {
  start_requested_ = false;
  if (state() == State::kStopped) return;
  stop_request_ = request;
  Nudge();
}

void Instance::RequestDestroy() {
  destroy_requested_ = true;
  Nudge();
}

awaitable<Status> Instance::AwaitState(std::function<bool(const Instance&)> reached,
                                       MonoTime deadline) {
  auto self = shared_from_this();
  Waiting waiting(this, false);
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

Status Instance::Renew() {
  if (state() != State::kHealthy && state() != State::kRunning) {
    return Error(absl::StatusCode::kFailedPrecondition, code::kConflict,
                 absl::StrCat(name().ToString(), " is ", std::string(ToString(state())),
                              ": it has no idle timer to renew; start it with: ctr get ",
                              name().ToString()));
  }
  slot_->Touch(services_.clock.Now());
  return absl::OkStatus();
}

void Instance::Nudge() {
  alarm_->Ring();
  if (converging_) return;
  converging_ = true;
  SpawnOrDie(services_.executor, Run(), "instance " + name().ToString());
}

bool Instance::StartWanted() const {
  return start_requested_ ||
         std::any_of(waiters_.begin(), waiters_.end(),
                     [](const Waiter* waiter) { return waiter->wants_start && !waiter->failure; });
}

policy::LifecycleView Instance::View() {
  policy::LifecycleView view;
  view.state = state();
  view.start_wanted = StartWanted();
  view.stop_wanted = stop_request_.has_value();
  view.destroy_wanted = destroy_requested_;
  view.exited = exit_.has_value();
  view.started_at = started_at_;
  view.start_deadline = start_deadline_;
  if (state() == State::kRunning) view.listening = RequiredPortsListen();
  if (state() == State::kHealthy) {
    view.idle = {running_config_->sleep_after, slot_->in_flight() > 0 || visits_ > 0,
                 slot_->last_activity()};
  }
  return view;
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

awaitable<void> Instance::Run() {
  auto self = shared_from_this();
  while (!forgotten_) {
    policy::LifecyclePlan plan = policy::DecideLifecycle(View(), services_.clock.Now());
    if (plan.step != policy::Step::kNone) {
      co_await Perform(plan.step);
    } else if (state() == State::kStopped) {
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
      co_await StopContainer(*std::exchange(stop_request_, std::nullopt), StopReason::kRequested);
      break;
    case policy::Step::kKill:
      co_await Kill();
      break;
    case policy::Step::kForget:
      co_await Forget();
      break;
  }
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
  spdlog::debug("{}: {}", name().ToString(), ToString(to));
  services_.store.WriteBehind({PutObserved{name(), observed}});
  RingAll();
}

void Instance::SetStopped(StopReason reason, std::string message) {
  Observed& observed = record_.observed;
  observed.reason = reason;
  observed.message = std::move(message);
  observed.exit_code = exit_ ? std::optional<int>(exit_->code) : std::nullopt;
  container_.reset();
  probe_ = nullptr;
  exit_.reset();
  last_seen_.clear();
  stop_request_.reset();
  SetState(State::kStopped);
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
