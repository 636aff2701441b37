// The supervisor's start: what should be is in the store, what is, in the runtime.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/config/class_file.h"
#include "agent/control/supervisor.h"
#include "spdlog/spdlog.h"

namespace ctr {

awaitable<Status> Supervisor::Recover() {
  CTR_CO_ASSIGN_OR_RETURN(StoredState state, co_await store_.Load());
  std::map<InstanceName, Observed> last_seen;
  CTR_CO_RETURN_IF_ERROR(Load(std::move(state), last_seen));
  CTR_CO_ASSIGN_OR_RETURN(std::vector<Container> containers, co_await runtime_.List());
  CTR_CO_RETURN_IF_ERROR(co_await Adopt(std::move(containers), last_seen));
  for (const auto& [name, instance] : instances_) {
    if (instance->record().desired == Desired::kDestroyed) instance->RequestDestroy("");
  }
  for (const auto& [name, instance] : instances_) {
    if (instance->state() == State::kStopped) {
      instance->Resume(last_seen[name].state != State::kStopped);
    }
  }
  Publish();
  co_return absl::OkStatus();
}

Status Supervisor::Load(StoredState state, std::map<InstanceName, Observed>& last_seen) {
  cursors_ = state.cursors;
  events_.Resume(state.last_event);
  for (ClassRecord& record : state.classes) {
    CTR_ASSIGN_OR_RETURN(record.config,
                         ParseClassFile(record.source, "stored class " + record.config.name));
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
      continue;
    }
    InstanceName name = record.name;
    last_seen[name] = record.observed;
    // Nothing runs until its container is found.
    if (record.observed.state != State::kStopped) {
      record.observed.state = State::kStopped;
      record.observed.reason = StopReason::kHostLost;
      record.observed.since = clock_.Wall();
    }
    record.observed.container_id.clear();
    instances_[name] =
        std::make_shared<Instance>(services_, class_state->second, std::move(record));
  }
  return absl::OkStatus();
}

awaitable<Status> Supervisor::Adopt(std::vector<Container> containers,
                                    std::map<InstanceName, Observed> last_seen) {
  // The newest start of an instance is the one that counts; the others are remains.
  std::sort(containers.begin(), containers.end(),
            [](const Container& a, const Container& b) { return a.generation > b.generation; });
  for (Container& container : containers) {
    auto found = instances_.find(container.name);
    Instance* instance = found == instances_.end() ? nullptr : found->second.get();
    const bool current = instance != nullptr && instance->state() == State::kStopped &&
                         container.generation >= last_seen[container.name].generation;
    // An exit that was seen is already recorded with its reason; what is left of it only needs to
    // be removed.
    const Observed& seen = last_seen[container.name];
    const bool exit_is_news =
        container.phase == ContainerPhase::kExited &&
        (seen.state != State::kStopped || container.generation > seen.generation);
    // Written behind, the row may not know of the newest start.
    if (instance != nullptr) instance->NoteGeneration(container.generation);
    if (current && (container.phase == ContainerPhase::kRunning || exit_is_news)) {
      spdlog::info("{}: taken over, container {}", container.name.ToString(), container.id);
      instance->Adopt(std::move(container));
      continue;
    }
    spdlog::info("{}: container {} is left over; removing it", container.name.ToString(),
                 container.id);
    Status removed = co_await runtime_.Remove(container.id);
    if (!removed.ok()) {
      spdlog::error("cannot remove container {}: {}", container.id, std::string(removed.message()));
    }
  }
  co_return absl::OkStatus();
}

}  // namespace ctr
