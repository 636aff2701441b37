#include "agent/control/class_pool.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/base/work.h"
#include "agent/control/why.h"
#include "agent/proxy/pool.h"
#include "spdlog/spdlog.h"

namespace ctr {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr size_t kHistory = 50;
constexpr Duration kTickInterval = seconds(1);
constexpr Duration kSampleInterval = milliseconds(100);
// Who has not waited longer for a place is no reason for another instance: half of a cold start.
constexpr Duration kPlacePatience = milliseconds(50);
constexpr char kMemoryRunsFull[] = "its memory runs up to its limit: another takes its place";
constexpr Duration kStartupPatience = seconds(30);
// Of the host's memory, for what is not ours.
constexpr double kAllocatable = 0.95;

// It keeps its place: who cannot start is not to have every other one tried.
bool IsBacked(const Instance& instance) {
  return (instance.state() == State::kStopped || instance.state() == State::kStopping) &&
         instance.IsBackingOff();
}

}  // namespace

policy::AutoscaleConfig AutoscaleConfigOf(const ClassConfig& config) {
  const AutoscaleSettings& settings = *config.autoscale;
  policy::AutoscaleConfig scale;
  scale.min = settings.min;
  scale.max = settings.max;
  scale.target_cpu = config.resources.cpus ? settings.target_cpu : std::nullopt;
  scale.target_memory = config.resources.memory_bytes ? settings.target_memory : std::nullopt;
  scale.sleep_after = config.sleep_after;
  scale.max_concurrency = config.max_concurrency;
  policy::TrafficConfig& traffic = scale.traffic;
  traffic.metric = settings.target_rps ? policy::TrafficConfig::Metric::kRps
                                       : policy::TrafficConfig::Metric::kConcurrency;
  traffic.target =
      settings.target_rps.value_or(settings.target_concurrency.value_or(kDefaultTargetConcurrency));
  traffic.target_utilization = settings.target_utilization;
  traffic.window = settings.window;
  traffic.panic_window_percentage = settings.panic_window_percentage;
  traffic.panic_threshold = settings.panic_threshold;
  traffic.max_scale_up_rate = settings.max_scale_up_rate;
  traffic.max_scale_down_rate = settings.max_scale_down_rate;
  traffic.activation_scale = settings.activation_scale;
  traffic.scale_down_delay = settings.scale_down_delay;
  return scale;
}

// Keeps a Waiter in its pool's queue for as long as the coroutine waits, also when it is cancelled.
class ClassPool::Waiting {
 public:
  Waiting(ClassPool* pool, std::string cause, size_t bytes) : pool_(pool) {
    waiter_.alarm = pool->services_.clock.MakeAlarm(pool->services_.executor);
    waiter_.cause = std::move(cause);
    waiter_.since = pool->services_.clock.Now();
    waiter_.bytes = bytes;
    pool->held_bytes_ += bytes;
    position_ = pool->waiters_.insert(pool->waiters_.end(), &waiter_);
  }
  Waiting(const Waiting&) = delete;
  ~Waiting() {
    pool_->held_bytes_ -= waiter_.bytes;
    pool_->waiters_.erase(position_);
    if (!waiter_.outcome) pool_->alarm_->Ring();
  }

  Waiter* operator->() { return &waiter_; }

 private:
  ClassPool* const pool_;
  Waiter waiter_;
  std::list<Waiter*>::iterator position_;
};

ClassPool::ClassPool(PoolServices& services, std::shared_ptr<ClassState> class_state)
    : services_(services),
      class_(std::move(class_state)),
      alarm_(services.clock.MakeAlarm(services.executor)),
      usage_(services.runtime, services.events) {}

void ClassPool::Start() {
  on_place_ = std::make_shared<const Slot::OnPlace>(
      [executor = services_.executor, pool = weak_from_this()] {
        asio::post(executor, [pool] {
          if (const std::shared_ptr<ClassPool> self = pool.lock()) self->Changed();
        });
      });
  Configure();
  SpawnOrDie(services_.executor, Run(shared_from_this()), "pool of " + config().name);
}

void ClassPool::Close() {
  closed_ = true;
  TellQueue(false);
  alarm_->Ring();
}

void ClassPool::Configure() {
  const MonoTime now = services_.clock.Now();
  if (!config().autoscale) {
    scaler_.reset();
    decision_.reset();
  } else if (scaler_) {
    scaler_->Configure(AutoscaleConfigOf(config()), now);
  } else {
    std::vector<policy::ScaledInstance> instances;
    scaler_.emplace(AutoscaleConfigOf(config()), View(instances), now);
  }
  // What they served for another class, or for no scaler, is no traffic of this one's.
  CountServed();
  Changed();
}

std::map<int, std::shared_ptr<Instance>> ClassPool::Members() const {
  std::map<int, std::shared_ptr<Instance>> members;
  const std::string& name = config().name;
  for (auto it = services_.instances.lower_bound({name, ""});
       it != services_.instances.end() && it->first.class_name == name; ++it) {
    if (std::optional<int> index = RoutedIndexOf(it->first.id)) members[*index] = it->second;
  }
  return members;
}

std::vector<std::shared_ptr<Slot>> ClassPool::Slots() const {
  std::vector<std::shared_ptr<Slot>> slots;
  for (const auto& [index, instance] : Members()) {
    if (index < config().route_instances) slots.push_back(instance->slot());
  }
  return slots;
}

int ClassPool::live() const {
  int count = 0;
  for (const auto& [index, instance] : Members()) {
    count += instance->state() != State::kStopped && instance->state() != State::kStopping;
  }
  return count;
}

int ClassPool::healthy() const {
  int count = 0;
  for (const auto& [index, instance] : Members()) {
    count += instance->shown_state() == State::kHealthy;
  }
  return count;
}

std::vector<ClassPool::Considered> ClassPool::Explain() {
  const MonoTime now = services_.clock.Now();
  std::vector<policy::Candidate> candidates;
  std::vector<Considered> told;
  for (const std::shared_ptr<Slot>& slot : Slots()) {
    candidates.push_back(CandidateOf(slot.get(), now));
    told.push_back({.name = slot->name(), .considered = {}, .candidate = candidates.back()});
  }
  const policy::Explanation explanation = policy::Explain(candidates, now, random_());
  for (size_t i = 0; i < told.size(); ++i) told[i].considered = explanation.candidates[i];
  return told;
}

awaitable<StatusOr<Passage>> ClassPool::Admit(MonoTime deadline, std::string cause, size_t bytes) {
  auto self = shared_from_this();
  if (waiters_.size() >= kHoldLimit || held_bytes_ + bytes > kHoldBytes) {
    co_return Error(absl::StatusCode::kResourceExhausted, code::kQueueFull,
                    absl::StrCat(waiters_.size(), " requests of ", held_bytes_,
                                 " bytes already wait for an instance of ", config().name,
                                 "; try again later"));
  }
  Waiting waiting(this, std::move(cause), bytes);
  Serve();
  if (!waiting->outcome) {
    CTR_CO_RETURN_IF_ERROR(CheckHope());
    Changed();
  }
  while (!waiting->outcome) {
    if (closed_) {
      co_return Error(absl::StatusCode::kNotFound, code::kUnknownClass,
                      absl::StrCat("class ", config().name, " was changed or removed; try again"));
    }
    if (services_.clock.Now() >= deadline) {
      co_return Error(
          absl::StatusCode::kDeadlineExceeded, code::kStartTimeout,
          absl::StrCat("no instance of ", config().name, " was ready in time (", live(), " live, ",
                       healthy(), " healthy); see: ctr why ", config().name, "/", RoutedId(0)));
    }
    co_await AllowCancellation(true);
    co_await waiting->alarm->WaitUntil(deadline);
    co_await AllowCancellation(false);
  }
  co_return *std::move(waiting->outcome);
}

Status ClassPool::CheckHope() const {
  if (!pending_.empty()) return absl::OkStatus();
  Status refused;
  for (const auto& [index, instance] : Members()) {
    if (instance->state() != State::kStopped) return absl::OkStatus();
    if (Status backoff = instance->CheckBackoff(); !backoff.ok()) refused = backoff;
  }
  return refused;
}

void ClassPool::Changed() {
  alarm_->Ring();
  if (closed_) {
    for (Waiter* waiter : waiters_) waiter->alarm->Ring();
  }
}

void ClassPool::StartFailed(const InstanceName& name, const Status& failure) {
  if (!pending_.empty()) return;
  for (const auto& [index, instance] : Members()) {
    const State state = instance->state();
    if (instance->name() == name || state == State::kStopped || state == State::kStopping) continue;
    return;
  }
  FailAll(failure);
}

void ClassPool::FailAll(const Status& failure) {
  for (Waiter* waiter : waiters_) {
    if (waiter->outcome) continue;
    waiter->outcome = failure;
    waiter->alarm->Ring();
  }
}

void ClassPool::Serve() {
  const auto waits = [](const Waiter* waiter) { return !waiter->outcome.has_value(); };
  auto next = std::find_if(waiters_.begin(), waiters_.end(), waits);
  if (next == waiters_.end()) return TellQueue(false);
  TellQueue(true);
  const std::vector<std::shared_ptr<Slot>> slots = Slots();
  while (next != waiters_.end()) {
    const policy::Choice choice = ChooseSlot(slots, services_.clock.Now(), random_());
    if (choice.outcome != policy::Choice::Outcome::kChosen) return;
    const std::shared_ptr<Slot>& slot = slots[choice.index];
    if (slot->Enter() != Slot::Entry::kEntered) return;
    (*next)->outcome = Passage(slot, slot->endpoint(), services_.now);
    (*next)->alarm->Ring();
    next = std::find_if(next, waiters_.end(), waits);
  }
  TellQueue(false);
}

void ClassPool::TellQueue(bool waits) {
  if (!waits && !queue_told_) return;
  queue_told_ = waits;
  for (const auto& [index, instance] : Members()) {
    Slot& slot = *instance->slot();
    if (slot.queued() != waits) slot.SetQueue(waits ? on_place_ : nullptr);
  }
}

bool ClassPool::IsActive() const {
  if (!waiters_.empty() || !pending_.empty()) return true;
  if (config().autoscale && config().autoscale->min > 0) return true;
  const auto members = Members();
  return std::any_of(members.begin(), members.end(), [](const auto& member) {
    return member.second->state() != State::kStopped || IsBacked(*member.second);
  });
}

// Keeps it alive.
awaitable<void> ClassPool::Run(std::shared_ptr<ClassPool>) {
  while (!closed_) {
    MonoTime now = services_.clock.Now();
    Serve();
    if (!IsActive()) {
      next_tick_ = now;
      last_tick_.reset();
      if (decision_) {  // of what was, nothing is any more
        decision_->signals.clear();
        decision_->panicking.reset();
      }
      co_await alarm_->WaitUntil(MonoTime::max());
      continue;
    }
    if (services_.held || class_->removing) {
      co_await alarm_->WaitUntil(now + kTickInterval);
      continue;
    }
    if (now >= next_sample_) Sample(now);
    if (now >= next_tick_) {
      Tick(now);
    } else if (!waiters_.empty()) {
      WakeOne();
    }
    MonoTime next = std::min(next_sample_, next_tick_);
    if (!waiters_.empty() && waiters_.front()->since + kPlacePatience > now) {
      next = std::min(next, waiters_.front()->since + kPlacePatience);
    }
    if (decision_ && decision_->check_at && *decision_->check_at > now) {
      next = std::min(next, *decision_->check_at);
    }
    co_await alarm_->WaitUntil(next);
    // When it falls asleep is not to wait for the tick.
    now = services_.clock.Now();
    if (decision_ && decision_->check_at && now >= *decision_->check_at) {
      next_tick_ = now;
    }
  }
  Changed();
}

// What is in flight of a class that scales, by looking at it ten times a second.
void ClassPool::Sample(MonoTime now) {
  next_sample_ = now + kSampleInterval;
  sampled_ += static_cast<double>(waiters_.size());
  for (const std::shared_ptr<Slot>& slot : Slots()) {
    sampled_ += static_cast<double>(slot->in_flight());
  }
  ++samples_;
}

void ClassPool::Tick(MonoTime now) {
  usage_.Read(config(), Members(), now);
  if (scaler_) {
    const Duration interval = last_tick_ ? now - *last_tick_ : kTickInterval;
    const auto came = static_cast<double>(CountServed());
    // Twice at the same time: nothing came in between.
    if (interval > Duration::zero()) {
      scaler_->Record({.at = now,
                       .concurrency = samples_ > 0 ? sampled_ / samples_ : 0,
                       .rps = came / std::chrono::duration<double>(interval).count(),
                       .interval = interval});
    }
    sampled_ = 0;
    samples_ = 0;
    Scale(now);
  } else if (!waiters_.empty()) {
    WakeOne();
  }
  last_tick_ = now;
  next_tick_ = now + kTickInterval;
}

// Requests that they have served since it was last asked. Those of an instance that was forgotten
// and made again are counted anew.
uint64_t ClassPool::CountServed() {
  uint64_t came = 0;
  std::map<int, uint64_t> served;
  for (const auto& [index, instance] : Members()) {
    const uint64_t now = served[index] = instance->slot()->served();
    const uint64_t before = served_[index];
    came += now >= before ? now - before : now;
  }
  served_ = std::move(served);
  return came;
}

// It was found at the last tick that there can be no more than `count`.
bool ClassPool::IsFull(int count) const {
  using policy::Bound;
  if (!decision_ || decision_->desired > count) return false;
  return decision_->bound == Bound::kMax || decision_->bound == Bound::kMaxInstances ||
         decision_->bound == Bound::kHost;
}

int ClassPool::Queued() const {
  if (healthy() == 0) return static_cast<int>(waiters_.size());
  const MonoTime since = services_.clock.Now() - kPlacePatience;
  return static_cast<int>(std::count_if(
      waiters_.begin(), waiters_.end(),
      [&](const Waiter* waiter) { return !waiter->outcome && waiter->since <= since; }));
}

// Requests wait: not for a tick.
void ClassPool::WakeOne() {
  const int queued = Queued();
  if (queued == 0) return;
  if (scaler_) {
    const int count = live() + static_cast<int>(pending_.size());
    const auto members = Members();
    const auto fails = [](const auto& member) {
      return member.second->shown_state() != member.second->state();
    };
    const auto unready = std::count_if(members.begin(), members.end(), fails);
    if (policy::BurstWish(AutoscaleConfigOf(config()), queued, healthy()) > count - unready &&
        !IsFull(count)) {
      Scale(services_.clock.Now());
    }
    return;
  }
  if (!pending_.empty()) return;
  const auto members = Members();
  const auto comes_up = [](const auto& member) {
    const State state = member.second->state();
    return state == State::kStarting || state == State::kRunning || IsBacked(*member.second);
  };
  if (std::any_of(members.begin(), members.end(), comes_up)) return;
  for (int index = 0; index < config().route_instances; ++index) {
    auto member = members.find(index);
    if (member != members.end() && member->second->state() != State::kStopped) continue;
    return StartOne(index, waiters_.front()->cause);
  }
}

policy::AutoscaleView ClassPool::View(std::vector<policy::ScaledInstance>& instances) const {
  using Phase = policy::ScaledInstance::Phase;
  policy::AutoscaleView view;
  const MonoTime now = services_.clock.Now();
  const double cpu_limit = config().resources.cpus.value_or(0);
  const auto memory_limit = static_cast<double>(config().resources.memory_bytes.value_or(0));
  const Duration tcp_idle =
      config().tcp_idle.value_or(config().sleep_after.value_or(Duration::max()));
  const auto members = Members();
  for (const auto& [index, instance] : members) {
    const Slot& slot = *instance->slot();
    policy::ScaledInstance scaled;
    scaled.index = index;
    scaled.generation = instance->observed().generation;
    scaled.cpu_limit = cpu_limit;
    scaled.memory_limit = memory_limit;
    scaled.last_activity = slot.last_activity();
    // Connections on which nothing moved for long are no traffic.
    const bool quiet = now - slot.last_tunnel_activity() >= tcp_idle;
    const uint64_t in_flight = slot.in_flight();
    const uint64_t idle = quiet ? std::min(slot.tunnels(), in_flight) : 0;
    scaled.in_flight = static_cast<int>(in_flight - idle) + instance->visits();
    view.last_activity = std::max(view.last_activity, slot.last_activity());
    view.busy |= instance->visits() > 0;
    switch (instance->state()) {
      case State::kStopped:
        if (!IsBacked(*instance) && !pending_.contains(index)) continue;
        scaled.phase = IsBacked(*instance) ? Phase::kWaiting : Phase::kStarting;
        break;
      case State::kStarting:
      case State::kRunning:
        scaled.phase = Phase::kStarting;
        // Whoever had it start, by its ID perhaps, is not in flight yet.
        view.busy = true;
        break;
      case State::kHealthy:
      case State::kFrozen:
        scaled.phase = slot.load().passing() ? Phase::kHealthy : Phase::kUnready;
        break;
      case State::kStopping:
        scaled.phase = IsBacked(*instance) ? Phase::kWaiting : Phase::kDraining;
        break;
    }
    scaled.started_at = instance->started_at();
    scaled.ready_changed_at = instance->healthy_at();
    if (const ClassUsage::Reading* reading = usage_.Find(index, scaled.generation)) {
      scaled.cpu = reading->cpu;
      scaled.memory_used = reading->memory_used;
      scaled.memory_pressure = reading->memory_pressure * 100;
    }
    instances.push_back(scaled);
  }
  for (int index : pending_) {
    if (members.contains(index)) continue;
    instances.push_back({.index = index, .phase = Phase::kStarting});
  }
  std::sort(instances.begin(), instances.end(),
            [](const auto& a, const auto& b) { return a.index < b.index; });
  view.instances = instances;
  view.queued = Queued();
  view.max_instances = config().max_instances;
  view.others = class_->live;
  for (const auto& [index, instance] : members) {
    view.others -= instance->state() != State::kStopped;
  }
  view.host_capacity = HostCapacity(static_cast<int>(instances.size()));
  return view;
}

// By memory alone: a limit of CPU is no claim to it, while what is over the host's memory is
// killed.
int ClassPool::HostCapacity(int live) const {
  const int64_t each = config().resources.memory_bytes.value_or(0);
  if (each == 0) return config().max_instances;
  double room = static_cast<double>(SizeOfHost().memory_bytes) * kAllocatable;
  for (const auto& [name, instance] : services_.instances) {
    if (instance->state() == State::kStopped) continue;
    room -=
        static_cast<double>(instance->class_state()->config->resources.memory_bytes.value_or(0));
  }
  return live + std::max(0, static_cast<int>(room / static_cast<double>(each)));
}

void ClassPool::Scale(MonoTime now) {
  std::vector<policy::ScaledInstance> instances;
  policy::AutoscaleDecision decision = scaler_->Decide(View(instances), now);
  const bool changes = !decision.start.empty() || !decision.drain.empty();
  if (changes || !decision_ || decision_->desired != decision.desired) {
    history_.push_back({services_.clock.Wall(), decision.desired, decision.reason});
    if (history_.size() > kHistory) history_.pop_front();
  }
  if (changes) {
    services_.events.Record(
        {.type = event::kScaled,
         .instance = {config().name, ""},
         .message = absl::StrCat(
             "to ", decision.desired, ": ", decision.reason,
             decision.replacing
                 ? absl::StrCat("; ", RoutedId(*decision.replacing), ": ", kMemoryRunsFull)
                 : "")});
  }
  decision_ = decision;
  CarryOut(decision);
}

void ClassPool::CarryOut(const policy::AutoscaleDecision& decision) {
  for (int index : decision.start) StartOne(index, kAutoscaleCause + decision.reason);
  const auto members = Members();
  for (int index : decision.drain) {
    auto member = members.find(index);
    if (member == members.end()) continue;
    const std::string why = index == decision.replacing ? kMemoryRunsFull : decision.reason;
    member->second->RequestStop({.cause = kAutoscaleCause + why, .reason = StopReason::kSlept});
  }
}

void ClassPool::StartOne(int index, std::string cause) {
  if (!pending_.insert(index).second) return;
  SpawnOrDie(services_.executor, StartInstance(shared_from_this(), index, std::move(cause)),
             "start of " + config().name);
}

awaitable<void> ClassPool::StartInstance(std::shared_ptr<ClassPool> self, int index,
                                         std::string cause) {
  const InstanceName name{self->config().name, RoutedId(index)};
  StatusOr<std::shared_ptr<Instance>> instance = co_await self->services_.get(name, cause);
  Status status = instance.status();
  if (status.ok()) status = (*instance)->CheckMayStart();
  if (status.ok()) {
    (*instance)->RequestStart(std::move(cause));
    const uint64_t stops = (*instance)->stops();
    (co_await (*instance)->AwaitState(
         [stops](const Instance& it) {
           return it.state() != State::kStopped || it.stops() > stops || it.forgotten();
         },
         self->services_.clock.Now() + kStartupPatience))
        .IgnoreError();
  }
  self->pending_.erase(index);
  if (!status.ok()) {
    self->services_.events.Record({.type = event::kRefused,
                                   .instance = name,
                                   .message = std::string(status.message()),
                                   .cause = "its class's routing"});
    self->StartFailed(name, status);
  }
  self->Changed();
}

}  // namespace ctr
