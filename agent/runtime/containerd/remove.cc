#include "agent/runtime/containerd/remove.h"

#include <signal.h>

#include "absl/strings/str_cat.h"
#include "agent/base/work.h"
#include "agent/runtime/containerd/disk.h"
#include "agent/runtime/containerd/remains.h"

namespace ctr {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using TaskStatus = ::containerd::v1::types::Status;

// How long a process may take to be gone after its SIGKILL: it may be in the middle of writing
// much.
constexpr seconds kKillTimeout(10);
constexpr int kAttempts = 5;

Status IgnoreNotFound(const Status& status) {
  return absl::IsNotFound(status) ? absl::OkStatus() : status;
}

// SIGKILLs the task and waits for its end. OK if it has ended, or is not there.
awaitable<Status> KillTask(std::shared_ptr<Core> core, std::string id) {
  tasks::KillRequest kill;
  kill.set_container_id(id);
  kill.set_signal(SIGKILL);
  kill.set_all(true);
  StatusOr<google::protobuf::Empty> killed =
      co_await core->client.Call(&TasksApi::Kill, std::move(kill));
  CTR_CO_RETURN_IF_ERROR(IgnoreNotFound(killed.status()));
  tasks::WaitRequest wait;
  wait.set_container_id(id);
  StatusOr<tasks::WaitResponse> exit =
      co_await core->client.Call(&TasksApi::Wait, std::move(wait), {.timeout = kKillTimeout});
  co_return IgnoreNotFound(exit.status());
}

// One attempt to be rid of the task. OK if there is none; then what is left of one goes.
awaitable<Status> TryDeleteTask(std::shared_ptr<Core> core, std::string id) {
  tasks::GetRequest get;
  get.set_container_id(id);
  StatusOr<tasks::GetResponse> task = co_await core->client.Call(&TasksApi::Get, std::move(get));
  if (absl::IsNotFound(task.status())) {
    co_return co_await OnWork(core->work, [core, id] { return RemoveRemains(*core, id); });
  }
  CTR_CO_RETURN_IF_ERROR(task.status());
  if (task->process().status() != TaskStatus::STOPPED) {
    CTR_CO_RETURN_IF_ERROR(co_await KillTask(core, id));
  }
  tasks::DeleteTaskRequest remove;
  remove.set_container_id(id);
  StatusOr<tasks::DeleteResponse> removed =
      co_await core->client.Call(&TasksApi::Delete, std::move(remove));
  co_return IgnoreNotFound(removed.status());
}

awaitable<Status> DeleteTask(std::shared_ptr<Core> core, std::string id) {
  Status status;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    status = co_await TryDeleteTask(core, id);
    if (status.ok() || absl::IsUnavailable(status) || core->client.closed()) co_return status;
    // Its shim is gone or in trouble: what still runs is ended past it, and containerd notices.
    co_await core->clock->SleepUntil(core->clock->Now() + milliseconds(100));
    if (auto found = core->processes.find(id); found != core->processes.end()) {
      found->second->Signal(SIGKILL).IgnoreError();
    }
  }
  co_return Annotate(status, absl::StrCat("cannot remove the task ", id));
}

awaitable<Status> DeleteRecord(std::shared_ptr<Core> core, std::string id) {
  containers::DeleteContainerRequest request;
  request.set_id(id);
  StatusOr<google::protobuf::Empty> response =
      co_await core->client.Call(&ContainersApi::Delete, std::move(request));
  co_return Annotate(IgnoreNotFound(response.status()),
                     absl::StrCat("cannot remove the container ", id));
}

}  // namespace

awaitable<Status> RemoveContainer(std::shared_ptr<Core> core, std::string id) {
  CTR_CO_RETURN_IF_ERROR(co_await DeleteTask(core, id));
  core->processes.erase(id);
  core->disk_folders.erase(id);
  if (core->cgroups.Exists(core->CgroupPath(id))) {
    CTR_CO_RETURN_IF_ERROR(
        co_await OnWork(core->work, [core, id] { return RemoveRemains(*core, id); }));
  }
  CTR_CO_RETURN_IF_ERROR(co_await DeleteRecord(core, id));
  // A kept disk has another name.
  co_return co_await RemoveSnapshot(core, id);
}

}  // namespace ctr
