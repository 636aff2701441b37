#include "agent/runtime/containerd/internet.h"

#include <unistd.h>

#include <utility>

#include <spdlog/spdlog.h>

#include "absl/strings/str_cat.h"
#include "agent/base/work.h"

namespace ctr {
namespace {

constexpr Duration kLook = std::chrono::seconds(1);
constexpr Duration kRetry = std::chrono::seconds(30);

Status Refusal(const Status& why) {
  return Error(
      absl::StatusCode::kFailedPrecondition, code::kStartFailed,
      absl::StrCat("this host can't give instances a way out: ", std::string(why.message()),
                   "; `ctr doctor` tells more; [network] internet = false in the class "
                   "starts them without"));
}

}  // namespace

awaitable<void> KeepInternet(std::shared_ptr<Core> core) {
  bool open = false;
  while (!core->client.closed()) {
    // An agent that takes over sees to the rules, which are the same table's.
    co_await core->changes.Pass();
    Status status = co_await OnWork(
        core->work, [core, open] { return open ? core->egress.Refresh() : core->egress.Open(); });
    if (!status.ok() && status != core->egress_status) {
      spdlog::warn("no instance gets a way out: {}", std::string(status.message()));
    }
    open = status.ok();
    core->egress_status = std::move(status);
    core->egress_known.Open();
    co_await core->clock->SleepUntil(core->clock->Now() + (open ? kLook : kRetry));
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
  // Cut off meanwhile, maybe before this one was there to be.
  CTR_CO_RETURN_IF_ERROR(
      co_await OnWork(core->work, [core, id = container_id] { return core->egress.Detach(id); }));
  co_return Refusal(core->egress_status);
}

}  // namespace ctr
