#include "agent/runtime/containerd/internet.h"

#include <unistd.h>

#include <algorithm>
#include <set>
#include <utility>

#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "agent/base/work.h"
#include "agent/runtime/containerd/disk.h"

namespace ctr {
namespace {

constexpr Duration kLook = std::chrono::seconds(1);
constexpr Duration kLongestRepairPause = std::chrono::seconds(30);

Status Refusal(const Status& why) {
  return Error(
      absl::StatusCode::kFailedPrecondition, code::kStartFailed,
      absl::StrCat("this host can't give instances a way out: ", std::string(why.message()),
                   "; `ctr doctor` tells more; [network] internet = false in the class "
                   "starts them without"));
}

// An event of the container's instance, and a line of the log.
void Tell(const TellInternet& tell, const containers::Container& record, const char* type,
          std::string message) {
  const auto label = [&](const char* key) {
    const auto found = record.labels().find(key);
    return found == record.labels().end() ? std::string() : found->second;
  };
  Event event;
  event.type = type;
  event.instance = {label(label::kClass), label(label::kId)};
  event.message = std::move(message);
  if (!absl::SimpleAtoi(label(label::kGeneration), &event.generation)) event.generation = 0;
  spdlog::warn("{}: {}", event.instance.ToString(), event.message);
  if (tell) tell(std::move(event));
}

// What is attached from now on is taken off again by who attached it (GiveInternet).
awaitable<void> CutOff(std::shared_ptr<Core> core, TellInternet tell) {
  const std::vector<std::string> ids =
      co_await OnWork(core->work, [core] { return core->egress.CutOff(); });
  if (ids.empty()) co_return;
  spdlog::error("{} containers are cut off: nothing would hold them back any more", ids.size());
  const auto records = co_await ListRecords(core);
  if (!records.ok()) co_return;
  for (const containers::Container& record : *records) {
    if (std::find(ids.begin(), ids.end(), record.id()) == ids.end()) continue;
    Tell(tell, record, event::kInternetLost,
         absl::StrCat("its way out is closed until the network's rules are in place again: ",
                      std::string(core->egress_status.message())));
  }
}

// Blocks. OK also if the process has ended meanwhile.
Status AttachAgain(Core& core, const std::string& id, const Pidfd& process) {
  StatusOr<NetworkNamespace> netns = NetworkNamespace::OfProcess(process.pid());
  if (process.HasExited()) return absl::OkStatus();
  CTR_RETURN_IF_ERROR(netns.status());
  const Status attached = core.egress.Attach(*netns, id);
  return process.HasExited() ? core.egress.Detach(id) : attached;
}

// Those that run, were made with a way out, and have none.
awaitable<void> AttachAll(std::shared_ptr<Core> core, TellInternet tell) {
  const auto records = co_await ListRecords(core);
  const auto attached = co_await OnWork(core->work, [core] { return core->egress.Attached(); });
  if (!records.ok() || !attached.ok()) co_return;
  const std::set<std::string> have(attached->begin(), attached->end());
  for (const containers::Container& record : *records) {
    // Of one that is just being made the process is not known yet.
    const auto found = core->processes.find(record.id());
    if (found == core->processes.end() || have.contains(record.id()) ||
        !IsMadeWithInternet(record.spec().value())) {
      continue;
    }
    const Status status =
        co_await OnWork(core->work, [core, id = record.id(), process = found->second] {
          return AttachAgain(*core, id, *process);
        });
    if (status.ok()) {
      Tell(tell, record, event::kInternetBack, "it has a way out again, with another address");
    } else {
      Tell(tell, record, event::kInternetLost,
           absl::StrCat("it gets no way out before it is started again (ctr restart): ",
                        std::string(status.message())));
    }
  }
}

awaitable<void> LookAfterInternet(std::shared_ptr<Core> core, TellInternet tell) {
  const bool was_open = core->egress_status.ok();
  Status status = co_await OnWork(core->work, [core, was_open] {
    return was_open ? core->egress.Refresh() : core->egress.Open();
  });
  if (!status.ok() && status != core->egress_status) {
    spdlog::warn("no further instance gets a way out: {}", std::string(status.message()));
  }
  core->egress_status = status;
  core->egress_known.Open();
  if (core->egress.rules_lost()) co_await CutOff(core, tell);
  if (status.ok() && !was_open) co_await AttachAll(core, tell);
}

}  // namespace

awaitable<void> KeepInternet(std::shared_ptr<Core> core, TellInternet tell) {
  Duration pause = kLook;
  while (!core->client.closed()) {
    // An agent that takes over sees to the rules, which are the same table's.
    co_await core->changes.Pass();
    core->egress_rests.Close();
    try {
      co_await LookAfterInternet(core, tell);
    } catch (const std::exception& exception) {
      core->egress_status = absl::InternalError(exception.what());
    }
    core->egress_known.Open();
    core->egress_rests.Open();
    pause = core->egress_status.ok() ? kLook : std::min(2 * pause, kLongestRepairPause);
    co_await core->clock->SleepUntil(core->clock->Now() + pause);
  }
}

std::string Internet::NamespacePath() const {
  return absl::StrCat("/proc/", ::getpid(), "/fd/", netns->fd());
}

awaitable<StatusOr<Internet>> PrepareInternet(std::shared_ptr<Core> core) {
  co_await core->egress_known.Pass();
  if (!core->egress_status.ok()) co_return Refusal(core->egress_status);
  CTR_CO_ASSIGN_OR_RETURN(NetworkNamespace netns,
                          co_await OnWork(core->work, [] { return NetworkNamespace::Make(); }));
  co_return Internet{core->egress.ResolvConfPath(),
                     std::make_shared<const NetworkNamespace>(std::move(netns))};
}

awaitable<Status> GiveInternet(std::shared_ptr<Core> core, std::string container_id,
                               std::shared_ptr<const NetworkNamespace> netns) {
  CTR_CO_RETURN_IF_ERROR(co_await OnWork(
      core->work, [core, id = container_id, netns] { return core->egress.Attach(*netns, id); }));
  if (core->egress_status.ok()) co_return absl::OkStatus();
  // The way out was closed meanwhile, maybe before this one was there to be cut off.
  CTR_CO_RETURN_IF_ERROR(
      co_await OnWork(core->work, [core, id = container_id] { return core->egress.Detach(id); }));
  co_return Refusal(core->egress_status);
}

bool IsMadeWithInternet(const std::string& oci_spec) {
  const auto spec = nlohmann::json::parse(oci_spec, nullptr, false);
  const nlohmann::json::json_pointer place("/linux/namespaces");
  if (!spec.is_object() || !spec.contains(place)) return false;
  for (const nlohmann::json& entry : spec.at(place)) {
    if (entry.is_object() && entry.value("type", "") == "network") return entry.contains("path");
  }
  return false;
}

}  // namespace ctr
