#include "agent/runtime/containerd/observe.h"

#include "absl/strings/numbers.h"
#include "agent/runtime/containerd/disk.h"

namespace ctr {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using TaskStatus = ::containerd::v1::types::Status;
using Task = ::containerd::v1::types::Process;

constexpr milliseconds kRetryPause(50);

ContainerExit ExitOf(const Core& core, const std::string& id, uint32_t code) {
  ContainerExit exit;
  exit.code = static_cast<int>(code);
  // The cgroup stays until the task is removed. A process that survives the death of a child by its
  // own care and ends well was not killed.
  exit.oom_killed = code != 0 && core.cgroups.OomKills(core.CgroupPath(id)) > 0;
  return exit;
}

std::string LabelOf(const containers::Container& record, const char* key) {
  auto found = record.labels().find(key);
  return found == record.labels().end() ? "" : found->second;
}

Container Describe(const containers::Container& record) {
  Container container;
  container.id = record.id();
  container.name.class_name = LabelOf(record, label::kClass);
  container.name.id = LabelOf(record, label::kId);
  container.revision = LabelOf(record, label::kRevision);
  container.image_digest = LabelOf(record, label::kImageDigest);
  container.record = GetRecord(record.labels());
  if (!absl::SimpleAtoi(LabelOf(record, label::kGeneration), &container.generation)) {
    container.generation = 0;
  }
  int stop_signal = 0;
  if (absl::SimpleAtoi(LabelOf(record, label::kStopSignal), &stop_signal)) {
    container.stop_signal = stop_signal;
  }
  container.phase = ContainerPhase::kExited;  // until a live task is found
  return container;
}

// Takes over the task's process if it lives; a process that is gone leaves the container exited.
void Adopt(Core& core, const Task& task, Container& container) {
  if (task.status() == TaskStatus::STOPPED || task.pid() == 0) return;
  StatusOr<OpenedProcess> opened = OpenProcess(core, container.id, static_cast<int>(task.pid()));
  if (!opened.ok()) return;
  container.phase =
      task.status() == TaskStatus::CREATED ? ContainerPhase::kCreated : ContainerPhase::kRunning;
  container.pid = static_cast<int>(task.pid());
  container.netns = std::move(opened->netns);
  core.processes[container.id] = std::move(opened->process);
}

}  // namespace

awaitable<StatusOr<ContainerExit>> WaitForExit(std::shared_ptr<Core> core, std::string id) {
  for (;;) {
    tasks::WaitRequest wait;
    wait.set_container_id(id);
    StatusOr<tasks::WaitResponse> exit = co_await core->client.Call(
        &TasksApi::Wait, std::move(wait), {.timeout = hours(1), .wait_for_ready = true});
    if (exit.ok()) co_return ExitOf(*core, id, exit->exit_status());
    if (absl::IsNotFound(exit.status()) || core->client.closed()) co_return exit.status();

    const bool was_away = absl::IsUnavailable(exit.status());
    // containerd or the shim went away, or the hour is over. A cancelled caller ends here.
    co_await core->clock->SleepUntil(core->clock->Now() + kRetryPause);
    tasks::GetRequest get;
    get.set_container_id(id);
    StatusOr<tasks::GetResponse> task =
        co_await core->client.Call(&TasksApi::Get, std::move(get), {.wait_for_ready = true});
    if (was_away && !absl::IsUnavailable(task.status())) core->reconnected->Ring();
    if (absl::IsNotFound(task.status())) co_return task.status();
  }
}

awaitable<StatusOr<std::vector<Container>>> ListContainers(std::shared_ptr<Core> core) {
  CTR_CO_ASSIGN_OR_RETURN(std::vector<containers::Container> records, co_await ListRecords(core));
  StatusOr<tasks::ListTasksResponse> running = co_await core->client.Call(&TasksApi::List, {});
  if (!running.ok()) co_return Annotate(running.status(), "cannot list the tasks");

  absl::flat_hash_map<std::string, const Task*> tasks_by_id;
  for (const Task& task : running->tasks()) tasks_by_id[task.id()] = &task;
  std::vector<Container> found;
  for (const containers::Container& record : records) {
    Container container = Describe(record);
    auto task = tasks_by_id.find(container.id);
    if (task != tasks_by_id.end()) Adopt(*core, *task->second, container);
    found.push_back(std::move(container));
  }
  co_return found;
}

}  // namespace ctr
