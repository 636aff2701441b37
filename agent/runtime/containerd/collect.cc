#include "agent/runtime/containerd/collect.h"

#include <string>
#include <utility>

#include <spdlog/spdlog.h>

#include "agent/base/work.h"
#include "agent/runtime/containerd/image_record.h"

namespace ctr {
namespace {

constexpr std::chrono::seconds kDelay(2);

awaitable<void> WaitAndCollect(std::shared_ptr<Core> core) {
  const MonoTime due = core->clock->Now() + kDelay;
  while (core->clock->Now() < due && !core->client.closed()) co_await core->closed->WaitUntil(due);
  if (core->client.closed()) co_return;
  co_await core->changes.Pass();
  // Whoever asks from here on may come too late for this one.
  core->collects = false;
  Status collected = co_await Collect(core);
  if (collected.ok() || core->client.closed()) co_return;
  spdlog::warn("what removed instances wrote may take room until the next is removed: {}",
               std::string(collected.message()));
}

}  // namespace

awaitable<Status> Collect(std::shared_ptr<Core> core) {
  const std::shared_ptr<const ContainerdClient> client(core, &core->client);
  CTR_CO_ASSIGN_OR_RETURN(std::string lease, co_await CreateLease(client, "collect"));
  // A snapshot that goes with its lease: if none goes, containerd looks for no folders.
  snapshots::PrepareSnapshotRequest prepare;
  prepare.set_snapshotter(kSnapshotter);
  prepare.set_key(lease);
  Status prepared =
      (co_await client->Call(&SnapshotsApi::Prepare, std::move(prepare), {.lease = lease}))
          .status();
  Status deleted = co_await DeleteLease(client, std::move(lease));
  deleted.Update(prepared);
  co_return deleted;
}

void CollectLater(std::shared_ptr<Core> core) {
  if (std::exchange(core->collects, true)) return;
  const asio::any_io_executor control = core->control;
  SpawnOrDie(control, WaitAndCollect(std::move(core)), "collection");
}

}  // namespace ctr
