#include "agent/runtime/containerd/observe.h"

#include <set>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

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
  for (int i = 0; record.labels().contains(absl::StrCat(label::kRecord, i)); ++i) {
    container.record += LabelOf(record, absl::StrCat(label::kRecord, i).c_str());
  }
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

containers::ListContainersRequest OursOnly(const Core& core) {
  containers::ListContainersRequest request;
  request.add_filters(absl::StrCat("labels.\"", label::kAgent, "\"==", core.options.agent_id));
  return request;
}

// The keys of our snapshots that are some container's. Blocks.
awaitable<StatusOr<std::vector<std::string>>> ActiveSnapshots(std::shared_ptr<Core> core) {
  snapshots::ListSnapshotsRequest request;
  request.set_snapshotter(kSnapshotter);
  request.add_filters(absl::StrCat("labels.\"", label::kAgent, "\"==", core->options.agent_id));
  auto context = core->client.NewContext();
  auto stream = core->client.snapshots()->List(context.get(), request);
  std::vector<std::string> keys;
  snapshots::ListSnapshotsResponse part;
  while (stream->Read(&part)) {
    for (const auto& info : part.info()) {
      if (info.kind() == snapshots::ACTIVE) keys.push_back(info.name());
    }
  }
  CTR_CO_RETURN_IF_ERROR(core->client.FromGrpc(stream->Finish()));
  co_return keys;
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

    // containerd or the shim went away, or the hour is over. A cancelled caller ends here.
    co_await core->clock->SleepUntil(core->clock->Now() + kRetryPause);
    tasks::GetRequest get;
    get.set_container_id(id);
    StatusOr<tasks::GetResponse> task =
        co_await core->client.Call(&TasksApi::Get, std::move(get), {.wait_for_ready = true});
    if (absl::IsNotFound(task.status())) co_return task.status();
  }
}

awaitable<StatusOr<std::vector<Container>>> ListContainers(std::shared_ptr<Core> core) {
  StatusOr<containers::ListContainersResponse> records =
      co_await core->client.Call(&ContainersApi::List, OursOnly(*core));
  if (!records.ok()) co_return Annotate(records.status(), "cannot list the containers");
  StatusOr<tasks::ListTasksResponse> running = co_await core->client.Call(&TasksApi::List, {});
  if (!running.ok()) co_return Annotate(running.status(), "cannot list the tasks");

  absl::flat_hash_map<std::string, const Task*> tasks_by_id;
  for (const Task& task : running->tasks()) tasks_by_id[task.id()] = &task;
  std::vector<Container> found;
  for (const containers::Container& record : records->containers()) {
    Container container = Describe(record);
    auto task = tasks_by_id.find(container.id);
    if (task != tasks_by_id.end()) Adopt(*core, *task->second, container);
    found.push_back(std::move(container));
  }
  co_return found;
}

awaitable<Status> SweepSnapshots(std::shared_ptr<Core> core) {
  StatusOr<containers::ListContainersResponse> records =
      co_await core->client.Call(&ContainersApi::List, OursOnly(*core));
  if (!records.ok()) co_return records.status();
  std::set<std::string> known;
  for (const containers::Container& record : records->containers())
    known.insert(record.snapshot_key());
  StatusOr<std::vector<std::string>> keys =
      co_await asio::co_spawn(core->work, ActiveSnapshots(core), use_awaitable);
  if (!keys.ok()) co_return keys.status();
  for (const std::string& key : *keys) {
    if (known.contains(key)) continue;
    snapshots::RemoveSnapshotRequest request;
    request.set_snapshotter(kSnapshotter);
    request.set_key(key);
    StatusOr<google::protobuf::Empty> removed =
        co_await core->client.Call(&SnapshotsApi::Remove, std::move(request));
    if (!removed.ok() && !absl::IsNotFound(removed.status())) co_return removed.status();
  }
  co_return absl::OkStatus();
}

}  // namespace ctr
