// The supervisor's start: what should be is in the store, what is, in the runtime.
#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/base/work.h"
#include "agent/config/class_file.h"
#include "agent/control/recovery_record.h"
#include "agent/control/supervisor.h"
#include "spdlog/spdlog.h"

namespace ctr {

namespace {

// A row goes only after its container and its kept disk: one of them without a row was lost, with
// the end of a log or to an older copy of the state file.
bool MissesRow(const StoredState& state, const std::vector<Container>& containers,
               const std::vector<KeptDisk>& disks) {
  std::set<InstanceName> known;
  for (const InstanceRecord& record : state.instances) known.insert(record.name);
  const auto lacks_row = [&](const auto& found) {
    return !found.record.empty() && !known.contains(found.name);
  };
  return std::any_of(containers.begin(), containers.end(),
                     [&](const Container& container) {
                       return container.phase == ContainerPhase::kRunning && lacks_row(container);
                     }) ||
         std::any_of(disks.begin(), disks.end(), lacks_row);
}

}  // namespace

awaitable<Status> Supervisor::Recover(RecoverySteps steps) {
  CTR_CO_ASSIGN_OR_RETURN(StoredState state, co_await store_.Load());
  CTR_CO_ASSIGN_OR_RETURN(std::vector<Container> containers, co_await runtime_.List());
  // Of an instance the newest start counts: its record, and its process.
  std::sort(containers.begin(), containers.end(),
            [](const Container& a, const Container& b) { return a.generation > b.generation; });
  CTR_CO_ASSIGN_OR_RETURN(std::vector<KeptDisk> disks, co_await runtime_.ListDisks());
  if (steps.may_change) CTR_CO_RETURN_IF_ERROR(co_await steps.may_change());
  events_.Resume(state.last_event);
  if (state.lost.empty() && MissesRow(state, containers, disks)) {
    state.lost = "the state file misses what runs or is kept";
  }
  if (!state.lost.empty()) co_await Rebuild(state, containers, disks);
  std::map<InstanceName, Observed> last_seen;
  CTR_CO_RETURN_IF_ERROR(Load(std::move(state), last_seen));
  Adopt(std::move(containers), last_seen);
  for (const auto& [name, instance] : instances_) {
    if (instance->record().desired == Desired::kDestroyed) instance->RequestDestroy("");
  }
  for (const auto& [name, instance] : instances_) {
    if (instance->state() == State::kStopped) {
      instance->Resume(last_seen[name].state != State::kStopped);
    }
  }
  if (steps.loaded) steps.loaded();
  Publish();
  SettlePools();
  co_await disk_.Look();
  SpawnOrDie(executor_, KeepReconciled(), "reconciliation");
  SpawnOrDie(executor_, disk_.KeepLooking(), "disk guard");
  SpawnOrDie(executor_, meter_.Run(), "class meter");
  SpawnOrDie(executor_, floor_.Run(), "disk floor");
  SpawnOrDie(executor_, ranks_.Run(), "CPU ranks");
  co_return absl::OkStatus();
}

// The state file was lost, or a part of it: what runs and what is kept on disk carries its rows.
awaitable<void> Supervisor::Rebuild(StoredState& state, const std::vector<Container>& containers,
                                    const std::vector<KeptDisk>& disks) {
  std::vector<std::string> records;
  for (const Container& container : containers) records.push_back(container.record);
  for (const KeptDisk& disk : disks) records.push_back(disk.record);
  const size_t classes = state.classes.size();
  const size_t instances = state.instances.size();
  std::vector<std::string> problems;
  std::vector<Change> changes =
      RebuildFromRecords(records, {options_.instance_range, options_.class_range}, state, problems);
  for (const std::string& problem : problems) spdlog::error("{}", problem);
  const std::string told = absl::StrCat(state.lost, "; ", state.classes.size() - classes,
                                        " classes and ", state.instances.size() - instances,
                                        " instances were rebuilt from what runs and is kept");
  spdlog::warn("{}", told);
  events_.Record({.type = event::kStateRebuilt, .message = told});
  // While something of it could not be read, the loss is told to every later agent.
  if (problems.empty()) changes.emplace_back(AcceptLoss{});
  Status committed = co_await store_.Commit(std::move(changes));
  // Served all the same; the next agent is told of the loss again.
  if (!committed.ok()) {
    spdlog::error("cannot keep what was rebuilt: {}", std::string(committed.message()));
  }
}

bool Supervisor::Knows(const std::string& container_id) const {
  return std::any_of(instances_.begin(), instances_.end(), [&](const auto& entry) {
    const std::vector<std::string> ids = entry.second->ContainerIds();
    return std::find(ids.begin(), ids.end(), container_id) != ids.end();
  });
}

awaitable<void> Supervisor::KeepReconciled() {
  using asio::experimental::awaitable_operators::operator||;
  for (;;) {
    co_await Reconcile();
    auto why = co_await (runtime_.AwaitReconnect() ||
                         clock_.SleepUntil(clock_.Now() + options_.reconcile_interval));
    if (why.index() == 0) {
      events_.Record({.type = event::kRuntimeBack, .message = "the runtime was away, and is back"});
    }
  }
}

// Instances see to their own containers. What nobody knows goes; a start in progress is known
// before its container is.
awaitable<void> Supervisor::Reconcile() {
  co_await LookAtImages();
  StatusOr<std::vector<Container>> containers = co_await runtime_.List();
  if (!containers.ok()) {
    spdlog::warn("cannot reconcile: {}", std::string(containers.status().message()));
    co_return;
  }
  for (const Container& container : *containers) {
    if (Knows(container.id) || unread_classes_.contains(container.name.class_name)) continue;
    Status removed = co_await runtime_.Remove(container.id);
    if (removed.ok()) {
      events_.Record(
          {.type = event::kRemoved,
           .instance = container.name,
           .message = absl::StrCat("container ", container.id, ", which was left over")});
    } else {
      spdlog::error("cannot remove container {}: {}", container.id, std::string(removed.message()));
    }
  }
  StatusOr<std::vector<std::string>> swept =
      co_await runtime_.Sweep([this](const std::string& id) { return Knows(id); });
  if (!swept.ok()) {
    spdlog::warn("cannot look for remains: {}", std::string(swept.status().message()));
    co_return;
  }
  for (const std::string& what : *swept) {
    spdlog::info("removed what was left over: {}", what);
    events_.Record({.type = event::kRemoved, .message = what});
  }
}

// One class is no reason to serve none: its rows stay, and what runs of it runs on, until an agent
// is started that can read it, as after it was applied again.
void Supervisor::NoteUnread(const ClassRecord& record, const Status& why) {
  const std::string& name = record.config.name;
  unread_classes_[name] = record.address;
  const std::string told =
      absl::StrCat("class ", name,
                   " is left alone, and so are its instances: what is kept of it can't be read: ",
                   std::string(why.message()), "; apply it again and restart the agent");
  spdlog::error("{}", told);
  events_.Record({.type = event::kClassUnread, .instance = {name, ""}, .message = told});
}

Status Supervisor::Load(StoredState state, std::map<InstanceName, Observed>& last_seen) {
  cursors_ = state.cursors;
  for (ClassRecord& record : state.classes) {
    const std::string name = record.config.name;
    StatusOr<ClassConfig> config = ParseClassFile(record.source, "stored class " + name);
    if (!config.ok()) {
      NoteUnread(record, config.status());
      continue;
    }
    record.config = *std::move(config);
    auto class_state = std::make_shared<ClassState>();
    class_state->revision = RevisionOf(record.config);
    class_state->config = std::make_shared<const ClassConfig>(record.config);
    classes_[record.config.name] = class_state;
    class_state->record = std::move(record);
  }
  for (InstanceRecord& record : state.instances) {
    auto class_state = classes_.find(record.name.class_name);
    if (class_state == classes_.end()) {
      spdlog::error("{}: its class is unknown; it is left alone", record.name.ToString());
      unread_addresses_.insert(record.address);
      continue;
    }
    InstanceName name = record.name;
    last_seen[name] = record.observed;
    // Nothing runs until its container is found.
    if (record.observed.state != State::kStopped) {
      if (!IsStoppedForDisk(record.observed, record.desired)) {
        record.observed.reason = StopReason::kHostLost;
      }
      record.observed.state = State::kStopped;
      record.observed.since = clock_.Wall();
    }
    record.observed.container_id.clear();
    instances_[name] =
        std::make_shared<Instance>(services_, class_state->second, std::move(record));
  }
  return absl::OkStatus();
}

void Supervisor::Adopt(std::vector<Container> containers,
                       const std::map<InstanceName, Observed>& last_seen) {
  for (Container& container : containers) {
    auto found = instances_.find(container.name);
    if (found == instances_.end()) continue;  // Reconcile, which comes next, removes it
    const InstancePtr& instance = found->second;
    const Observed& seen = last_seen.at(container.name);
    const bool current =
        instance->state() == State::kStopped && container.generation >= seen.generation;
    // The end of a start that was seen is already recorded with its reason; what is left of it only
    // needs to be removed.
    const bool is_news = seen.state != State::kStopped || container.generation > seen.generation;
    // Written behind, the row may not know of the newest start.
    instance->NoteGeneration(container.generation);
    if (current && is_news && container.phase != ContainerPhase::kCreated) {
      spdlog::info("{}: taken over, container {}", container.name.ToString(), container.id);
      instance->Adopt(std::move(container), seen);
      continue;
    }
    spdlog::info("{}: container {} is left over; removing it", container.name.ToString(),
                 container.id);
    instance->RemoveLeftover(container.id);
  }
}

}  // namespace ctr
