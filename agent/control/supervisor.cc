#include "agent/control/supervisor.h"

#include <algorithm>
#include <array>
#include <unordered_set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "agent/base/work.h"
#include "agent/control/log_files.h"
#include "agent/proxy/pool.h"

namespace ctr {
namespace {

bool Live(const Instance& instance) { return instance.state() != State::kStopped; }
bool Stopped(const Instance& instance) { return instance.state() == State::kStopped; }

// The command that they give; none: the image's own.
std::optional<std::vector<std::string>> CommandOf(const InstanceSettings& settings) {
  if (!settings.command || settings.command->empty()) return std::nullopt;
  return settings.command;
}

// Whether `settings` ask for anything that `record` does not have already.
bool Differs(const InstanceRecord& record, const InstanceSettings& settings) {
  for (const auto& [key, value] : settings.env) {
    auto found = record.env.find(key);
    if (found == record.env.end() || found->second != value) return true;
  }
  if (settings.command && CommandOf(settings) != record.command) return true;
  return !settings.entrypoint.empty() && record.entrypoint != settings.entrypoint;
}

void Merge(InstanceRecord& record, InstanceSettings settings) {
  for (auto& [key, value] : settings.env) record.env[key] = std::move(value);
  if (!settings.entrypoint.empty()) record.entrypoint = std::move(settings.entrypoint);
  if (settings.command) record.command = CommandOf(settings);
}

// A destroy is final: whatever changed the row after it would bring the row back.
Status CheckStays(const Instance& instance) {
  if (instance.record().desired != Desired::kDestroyed && !instance.forgotten()) {
    return absl::OkStatus();
  }
  return Error(absl::StatusCode::kFailedPrecondition, code::kConflict,
               instance.name().ToString() + " is being destroyed");
}

// What the ingress answers for a failed wake: one of its own codes.
Status AsIngressError(const Status& status) {
  constexpr std::array kKnown = {code::kDiskFull,        code::kBadRequest,  code::kUnknownClass,
                                 code::kUnknownInstance, code::kManualStart, code::kMaxInstances,
                                 code::kOverloaded,      code::kQueueFull,   code::kDraining,
                                 code::kStartFailed,     code::kStartTimeout};
  std::string error = ErrorCodeOf(status);
  if (std::find(kKnown.begin(), kKnown.end(), error) != kKnown.end()) return status;
  return Error(absl::StatusCode::kAborted, code::kStartFailed, std::string(status.message()));
}

}  // namespace

Supervisor::Supervisor(SupervisorServices services, Routes& routes, SupervisorOptions options)
    : options_(std::move(options)),
      clock_(services.clock),
      runtime_(services.runtime),
      store_(services.store),
      executor_(services.executor),
      routes_(routes),
      start_queue_(services.executor, services.clock, options_.parallel_starts),
      hook_queue_(services.executor, services.clock, options_.parallel_hooks),
      events_(services.store, services.clock, services.executor),
      disk_(executor_, services.work, services.clock, events_, options_.disk, options_.data_dir),
      meter_(services.clock, services.runtime, events_, classes_, instances_),
      floor_({services.executor, services.work, services.clock, services.runtime, events_, disk_,
              held_, instances_},
             options_.disk_floor),
      ranks_(services.clock, services.runtime, held_, instances_),
      services_{services.executor,
                services.work,
                services.clock,
                services.runtime,
                services.store,
                services.cluster,
                events_,
                disk_,
                start_queue_,
                options_.log_dir,
                options_.now,
                options_.probe,
                options_.check,
                options_.run_hook,
                hook_queue_,
                held_,
                floor_.low(),
                [this](std::string image) { return EnsureImage(std::move(image)); },
                [this](const InstanceName& name) { Forgotten(name); },
                [this](const InstanceName& name) {
                  if (auto pool = FindPool(name.class_name)) pool->Changed();
                  const auto instance = instances_.find(name);
                  if (instance == instances_.end()) return;
                  if (routes_.IsStale(*instance->second)) Publish();
                  floor_.NoteChange(*instance->second);
                },
                [this](const InstanceName& name, const Status& failure) {
                  if (auto pool = FindPool(name.class_name)) pool->StartFailed(name, failure);
                }},
      pool_services_{services.executor,
                     services.clock,
                     services.runtime,
                     events_,
                     instances_,
                     options_.now,
                     held_,
                     [this](InstanceName name, std::string cause) {
                       return GetOrCreate(std::move(name), {}, MonoTime::max(), std::move(cause));
                     }},
      class_edits_(services.executor, services.clock, 1) {}

StatusOr<std::shared_ptr<ClassState>> Supervisor::FindClass(const std::string& name) const {
  CTR_RETURN_IF_ERROR(CheckDnsLabel(name, "class name"));
  auto found = classes_.find(name);
  if (found != classes_.end()) return found->second;
  return Error(
      absl::StatusCode::kNotFound, code::kUnknownClass,
      absl::StrCat("there is no class \"", name, "\"; create it with: ctr class apply -f FILE"));
}

StatusOr<std::string> Supervisor::ResolveClass(const std::string& class_name) const {
  if (!class_name.empty()) {
    CTR_RETURN_IF_ERROR(CheckDnsLabel(class_name, "class name"));
    return class_name;
  }
  if (classes_.size() == 1) return classes_.begin()->first;
  if (classes_.empty()) {
    return Error(absl::StatusCode::kNotFound, code::kUnknownClass,
                 "there is no class yet; create one with: ctr class apply -f FILE");
  }
  std::vector<std::string> names;
  for (const auto& [name, state] : classes_) names.push_back(name);
  return Error(absl::StatusCode::kInvalidArgument, code::kBadRequest,
               absl::StrCat("which class? Give -c CLASS, CLASS/ID or CTR_CLASS; there are: ",
                            absl::StrJoin(names, ", ")));
}

StatusOr<Supervisor::InstancePtr> Supervisor::Find(InstanceName name) const {
  CTR_RETURN_IF_ERROR(CheckDnsLabel(name.id, "instance ID"));
  CTR_RETURN_IF_ERROR(FindClass(name.class_name).status());
  auto found = instances_.find(name);
  if (found != instances_.end()) return found->second;
  return Error(absl::StatusCode::kNotFound, code::kUnknownInstance,
               absl::StrCat("there is no instance ", name.ToString(), "; create it with: ctr get ",
                            name.ToString()));
}

awaitable<StatusOr<Supervisor::InstancePtr>> Supervisor::FindSettled(InstanceName name,
                                                                     MonoTime deadline) {
  for (;;) {
    auto found = instances_.find(name);
    if (found == instances_.end()) co_return nullptr;
    InstancePtr instance = found->second;
    if (!instance->destroying()) {
      CTR_CO_RETURN_IF_ERROR(co_await instance->AwaitCommitted());
      co_return instance;
    }
    CTR_CO_RETURN_IF_ERROR(co_await instance->AwaitState(&Instance::forgotten, deadline));
  }
}

awaitable<StatusOr<Supervisor::InstancePtr>> Supervisor::GetOrCreate(InstanceName name,
                                                                     InstanceSettings settings,
                                                                     MonoTime deadline,
                                                                     std::string cause) {
  CTR_CO_ASSIGN_OR_RETURN(InstancePtr instance, co_await FindSettled(name, deadline));
  if (!instance) {
    co_return co_await Create(std::move(name), std::move(settings), std::move(cause));
  }
  CTR_CO_RETURN_IF_ERROR(co_await UpdateSettings(instance, std::move(settings)));
  co_return instance;
}

awaitable<StatusOr<Supervisor::InstancePtr>> Supervisor::Create(InstanceName name,
                                                                InstanceSettings settings,
                                                                std::string cause) {
  CTR_CO_RETURN_IF_ERROR(CheckDnsLabel(name.id, "instance ID"));
  CTR_CO_ASSIGN_OR_RETURN(std::shared_ptr<ClassState> class_state, FindClass(name.class_name));
  if (class_state->removing) {
    co_return Error(absl::StatusCode::kFailedPrecondition, code::kConflict,
                    absl::StrCat("class ", name.class_name, " is being removed"));
  }
  InstanceRecord record;
  record.name = name;
  CTR_CO_ASSIGN_OR_RETURN(record.address, TakeInstanceAddress());
  CTR_CO_RETURN_IF_ERROR(routes_.AddAddress(record.address, *class_state->config));
  record.created_at = clock_.Wall();
  record.observed.since = record.created_at;
  Merge(record, std::move(settings));

  // Others who ask for the same name meanwhile find it here and wait for the commit, too.
  auto instance = std::make_shared<Instance>(services_, class_state, record);
  instance->SetUncommitted();
  instances_[name] = instance;
  // What an ID wrote that the state no longer knows is none of its successor's.
  Status committed = co_await OnWork(services_.work,
                                     [folder = instance->LogPath()] { return RemoveLogs(folder); });
  if (committed.ok()) {
    committed = co_await Commit({PutInstance{record}, PutCursors{cursors_}}, Use::kRoom);
  }
  if (!committed.ok()) {
    instances_.erase(name);
    instance->SetCommitted(committed);
    Publish();
    co_return Annotate(committed, "cannot create " + name.ToString());
  }
  Publish();
  events_.Record({.type = event::kCreated, .instance = name, .cause = std::move(cause)});
  instance->SetCommitted(absl::OkStatus());
  co_return instance;
}

awaitable<Status> Supervisor::UpdateSettings(InstancePtr instance, InstanceSettings settings) {
  if (settings.env.empty() && settings.entrypoint.empty() && !settings.command)
    co_return absl::OkStatus();
  Semaphore::Permit permit = co_await instance->edits().Acquire();
  CTR_CO_RETURN_IF_ERROR(CheckStays(*instance));
  if (!Differs(instance->record(), settings)) co_return absl::OkStatus();
  if (Live(*instance)) {
    co_return Error(
        absl::StatusCode::kFailedPrecondition, code::kConflict,
        absl::StrCat(instance->name().ToString(), " is ", std::string(ToString(instance->state())),
                     " with other settings; stop it first: ctr stop ",
                     instance->name().ToString()));
  }
  InstanceRecord record = instance->record();
  Merge(record, std::move(settings));
  CTR_CO_RETURN_IF_ERROR(co_await Commit({PutInstance{record}}, Use::kRoom));
  instance->ReplaceRecord(std::move(record));
  co_return absl::OkStatus();
}

awaitable<Status> Supervisor::Commit(std::vector<Change> changes, Use use) {
  Status status;
  if (use == Use::kReserve) {
    status = co_await CommitWithReserve(store_, disk_, std::move(changes));
  } else {
    CTR_CO_RETURN_IF_ERROR(co_await disk_.CheckMayChange());
    status = co_await store_.Commit(std::move(changes));
    if (IsDiskFull(status)) co_await disk_.NoteRefused();
  }
  if (!IsDiskFull(status)) co_return status;
  co_return Error(absl::StatusCode::kResourceExhausted, code::kDiskFull,
                  std::string(status.message()));
}

awaitable<Status> Supervisor::SetDesired(InstancePtr instance, Desired desired) {
  CTR_CO_RETURN_IF_ERROR(co_await instance->AwaitCommitted());
  Semaphore::Permit permit = co_await instance->edits().Acquire();
  if (instance->record().desired == desired) co_return absl::OkStatus();
  CTR_CO_RETURN_IF_ERROR(CheckStays(*instance));
  InstanceRecord record = instance->record();
  record.desired = desired;
  CTR_CO_RETURN_IF_ERROR(co_await Commit({PutInstance{record}}, Use::kReserve));
  instance->ReplaceRecord(std::move(record));
  co_return absl::OkStatus();
}

awaitable<Status> Supervisor::Start(InstancePtr instance, bool wait, MonoTime deadline,
                                    std::string cause) {
  CTR_CO_RETURN_IF_ERROR(co_await SetDesired(instance, Desired::kRunning));
  // What waits for room goes on waiting.
  if (!Live(*instance)) CTR_CO_RETURN_IF_ERROR(instance->CheckRoom());
  instance->ForgiveFailures();
  if (wait) co_return co_await instance->EnsureHealthy(deadline, std::move(cause));
  if (Live(*instance)) co_return absl::OkStatus();
  // Whoever does not wait is promised a start: if this agent is killed, the next one makes it.
  Observed promised = instance->observed();
  promised.next_start = clock_.Wall();
  CTR_CO_RETURN_IF_ERROR(
      co_await Commit({PutObserved{instance->name(), std::move(promised)}}, Use::kReserve));
  if (!Live(*instance)) instance->RequestStart(std::move(cause));
  co_return absl::OkStatus();
}

awaitable<Status> Supervisor::Stop(InstancePtr instance, StopRequest request, bool wait,
                                   MonoTime deadline, std::string cause) {
  CTR_CO_RETURN_IF_ERROR(co_await SetDesired(instance, Desired::kStopped));
  request.cause = std::move(cause);
  const uint64_t stops = instance->stops();
  instance->RequestStop(std::move(request));
  if (!wait) co_return absl::OkStatus();
  // A request that waits starts it again at once.
  co_return co_await instance->AwaitState(
      [stops](const Instance& it) { return Stopped(it) || it.stops() > stops; }, deadline);
}

awaitable<Status> Supervisor::Restart(InstancePtr instance, bool wait, MonoTime deadline,
                                      std::string cause) {
  // Before it is stopped.
  CTR_CO_RETURN_IF_ERROR(instance->CheckRoom());
  CTR_CO_RETURN_IF_ERROR(co_await SetDesired(instance, Desired::kRunning));
  const uint64_t generation = instance->observed().generation;
  instance->RequestStop({.cause = cause});
  instance->RequestStart(cause);
  if (!wait) co_return absl::OkStatus();
  CTR_CO_RETURN_IF_ERROR(co_await instance->AwaitState(
      [generation](const Instance& it) {
        return Stopped(it) || it.observed().generation > generation;
      },
      deadline));
  co_return co_await instance->EnsureHealthy(deadline, std::move(cause));
}

awaitable<Status> Supervisor::Destroy(InstancePtr instance, MonoTime deadline, std::string cause) {
  CTR_CO_RETURN_IF_ERROR(co_await BeginDestroy(instance, std::move(cause)));
  co_return co_await instance->AwaitState(&Instance::forgotten, deadline);
}

awaitable<Status> Supervisor::BeginDestroy(InstancePtr instance, std::string cause) {
  CTR_CO_RETURN_IF_ERROR(co_await SetDesired(instance, Desired::kDestroyed));
  instance->RequestDestroy(std::move(cause));
  co_return absl::OkStatus();
}

awaitable<StatusOr<Visit>> Supervisor::Enter(InstancePtr instance, MonoTime deadline,
                                             std::string cause) {
  CTR_CO_RETURN_IF_ERROR(co_await instance->AwaitCommitted());
  co_return co_await instance->AdmitVisit(deadline, std::move(cause));
}

awaitable<StatusOr<Supervisor::InstancePtr>> Supervisor::Route(std::string class_name, int n,
                                                               MonoTime deadline,
                                                               std::string cause) {
  CTR_CO_ASSIGN_OR_RETURN(std::shared_ptr<ClassState> class_state, FindClass(class_name));
  const bool asked_n = n != 0;
  if (!asked_n) n = class_state->config->route_instances;
  if (n > class_state->config->max_instances) {
    co_return Error(absl::StatusCode::kResourceExhausted, code::kMaxInstances,
                    absl::StrCat("cannot route over ", n, " instances: max_instances of class ",
                                 class_name, " is ", class_state->config->max_instances));
  }
  const ClassConfig& config = *class_state->config;
  const bool random = asked_n || config.route_policy == RoutePolicy::kRandom;
  // For none in particular it is waited for as long as a request waits.
  if (!random) {
    deadline = std::min(deadline, clock_.Now() + config.start_timeout + config.stop_grace);
  }
  InstanceName name{class_name, random ? PickRoutedId(class_name, n) : ""};
  StatusOr<Passage> passage = co_await Admit(name, WakeOrigin::kRoute, deadline, cause, 0);
  if (!passage.ok()) {
    Refused({name, ErrorCodeOf(passage.status()), std::string(passage.status().message()), cause});
    co_return passage.status();
  }
  co_return Find(passage->slot()->name());
}

std::string Supervisor::PickRoutedId(const std::string& class_name, int n) {
  std::vector<std::shared_ptr<Slot>> pool(static_cast<size_t>(n));
  for (int index = 0; index < n; ++index) {
    auto found = instances_.find({class_name, RoutedId(index)});
    if (found != instances_.end()) pool[index] = found->second->slot();
  }
  return RoutedId(PickRandom(pool, n, random_));
}

bool Supervisor::HasAny(State state) const {
  return std::any_of(instances_.begin(), instances_.end(),
                     [state](const auto& entry) { return entry.second->state() == state; });
}

void Supervisor::Hold() {
  held_ = true;
  ranks_.LetGo();
  for (const auto& [name, instance] : instances_) instance->CloseGate();
}

void Supervisor::Release() {
  held_ = false;
  for (const auto& [name, instance] : instances_) instance->ReopenGate();
}

void Supervisor::TellHandedOver(const Status& status) {
  for (const auto& [name, instance] : instances_) instance->TellHandedOver(status);
}

awaitable<StatusOr<Passage>> Supervisor::EnsureAwake(InstanceName name, WakeOrigin origin,
                                                     MonoTime deadline, std::string cause,
                                                     size_t bytes) {
  StatusOr<Passage> passage =
      co_await RunOn(executor_, Admit(std::move(name), origin, deadline, std::move(cause), bytes));
  if (!passage.ok()) co_return AsIngressError(passage.status());
  co_return passage;
}

awaitable<StatusOr<Passage>> Supervisor::Admit(InstanceName name, WakeOrigin origin,
                                               MonoTime deadline, std::string cause, size_t bytes) {
  co_await AllowCancellation(false);
  if (name.id.empty()) {
    while (const std::shared_ptr<ClassPool> pool = FindPool(name.class_name)) {
      StatusOr<Passage> passage = co_await pool->Admit(deadline, cause, bytes);
      if (passage.ok() || !pool->closed()) co_return passage;
    }
    // Its policy was changed just now, or meanwhile.
    CTR_CO_ASSIGN_OR_RETURN(std::shared_ptr<ClassState> class_state, FindClass(name.class_name));
    name.id = PickRoutedId(name.class_name, class_state->config->route_instances);
  }
  CTR_CO_ASSIGN_OR_RETURN(InstancePtr instance, co_await FindSettled(name, deadline));
  if (!instance) {
    CTR_CO_ASSIGN_OR_RETURN(std::shared_ptr<ClassState> class_state, FindClass(name.class_name));
    if (origin == WakeOrigin::kRequest && class_state->config->create != CreateBy::kRequest) {
      co_return Find(std::move(name)).status();
    }
    CTR_CO_ASSIGN_OR_RETURN(instance, co_await Create(std::move(name), {}, cause));
  }
  co_return co_await instance->Admit(deadline, std::move(cause), bytes);
}

StatusOr<uint32_t> Supervisor::TakeInstanceAddress() {
  std::unordered_set<uint32_t> used = unread_addresses_;
  for (const auto& [name, instance] : instances_) used.insert(instance->record().address);
  std::optional<uint32_t> address = NextAddress(options_.instance_range, cursors_.instance, used);
  if (!address) {
    return Error(absl::StatusCode::kResourceExhausted, code::kMaxInstances,
                 "every address of the instance range is taken; destroy instances, or give a "
                 "larger --instance-range");
  }
  cursors_.instance = *address;
  return *address;
}

StatusOr<uint32_t> Supervisor::TakeClassAddress() {
  std::unordered_set<uint32_t> used;
  for (const auto& [name, state] : classes_) used.insert(state->record.address);
  for (const auto& [name, address] : unread_classes_) used.insert(address);
  std::optional<uint32_t> address = NextAddress(options_.class_range, cursors_.class_, used);
  if (!address) {
    return Error(absl::StatusCode::kResourceExhausted, code::kMaxInstances,
                 "every address of the class range is taken; remove classes, or give a larger "
                 "--class-range");
  }
  cursors_.class_ = *address;
  return *address;
}

void Supervisor::Forgotten(const InstanceName& name) {
  instances_.erase(name);
  Publish();
}

std::shared_ptr<ClassPool> Supervisor::FindPool(const std::string& class_name) const {
  auto found = pools_.find(class_name);
  return found != pools_.end() ? found->second : nullptr;
}

void Supervisor::SettlePools() {
  std::erase_if(pools_, [this](const auto& entry) {
    auto found = classes_.find(entry.first);
    const bool stays =
        found != classes_.end() && found->second->config->route_policy == RoutePolicy::kNearest;
    if (!stays) entry.second->Close();
    return !stays;
  });
  for (const auto& [name, state] : classes_) {
    if (state->config->route_policy != RoutePolicy::kNearest) continue;
    std::shared_ptr<ClassPool>& pool = pools_[name];
    if (pool) {
      pool->Configure();
    } else {
      pool = std::make_shared<ClassPool>(pool_services_, state);
      pool->Start();
    }
  }
}

void Supervisor::Publish() { routes_.Publish(classes_, instances_); }

}  // namespace ctr
