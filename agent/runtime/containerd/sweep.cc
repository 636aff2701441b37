#include "agent/runtime/containerd/sweep.h"

#include <set>
#include <utility>

#include <spdlog/spdlog.h>

#include "absl/strings/str_cat.h"
#include "agent/base/work.h"
#include "agent/runtime/containerd/disk.h"
#include "agent/runtime/containerd/remains.h"

namespace ctr {
namespace {

// Containers that have a shim, a bundle, a mount, an interface or a cgroup. Blocks.
std::set<std::string> FindAll(const Core& core) {
  std::set<std::string> found;
  for (std::string& id : FindRemains(core)) found.insert(std::move(id));
  for (std::string& id : core.cgroups.Children(core.CgroupPath(""))) {
    if (id != Core::kAgentCgroup) found.insert(std::move(id));
  }
  return found;
}

}  // namespace

awaitable<StatusOr<std::vector<std::string>>> SweepRemains(std::shared_ptr<Core> core,
                                                           Runtime::IsAlive is_alive) {
  std::vector<std::string> told;
  // What is there before and after is not just being removed.
  const auto find_all = [core] { return FindAll(*core); };
  std::set<std::string> before = co_await OnWork(core->work, find_all);
  CTR_CO_ASSIGN_OR_RETURN(std::vector<containers::Container> records, co_await ListRecords(core));
  // What containerd still has a record of is for control to remove, with its task.
  for (const containers::Container& record : records) before.erase(record.id());
  std::erase_if(before, is_alive);
  std::set<std::string> after;
  if (!before.empty()) {
    after = co_await OnWork(core->work, find_all);
  }
  for (const std::string& id : after) {
    if (!before.contains(id) || is_alive(id)) continue;
    Status removed = co_await OnWork(core->work, [core, id] { return RemoveRemains(*core, id); });
    if (removed.ok()) {
      told.push_back(absl::StrCat("processes, mounts, interface and cgroup of container ", id));
    } else {
      spdlog::warn("cannot remove what is left of {}: {}", id, std::string(removed.message()));
    }
  }
  CTR_CO_ASSIGN_OR_RETURN(std::vector<std::string> unused, co_await UnusedSnapshots(core));
  for (const std::string& key : unused) {
    if (is_alive(key)) continue;
    Status removed = co_await RemoveSnapshot(core, key);
    if (removed.ok()) {
      told.push_back(absl::StrCat("the file system of container ", key));
    } else {
      spdlog::warn("{}", std::string(removed.message()));
    }
  }
  co_return told;
}

awaitable<Status> SweepSnapshots(std::shared_ptr<Core> core) {
  CTR_CO_ASSIGN_OR_RETURN(std::vector<std::string> unused, co_await UnusedSnapshots(core));
  for (const std::string& key : unused) CTR_CO_RETURN_IF_ERROR(co_await RemoveSnapshot(core, key));
  co_return absl::OkStatus();
}

}  // namespace ctr
