#include "agent/runtime/containerd/image_unpack.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "agent/base/disk_room.h"

namespace ctr {
namespace {

using Client = std::shared_ptr<const ContainerdClient>;
using Abandoned = std::shared_ptr<const std::atomic<bool>>;

constexpr Duration kApplyTimeout = std::chrono::hours(1);
constexpr Duration kLookInterval = std::chrono::milliseconds(20);

// One layer on top of the snapshot `parent`.
struct Layer {
  std::string lease;
  std::string key;  // of the snapshot while it is being made
  std::string parent;
  std::string chain_id;
  LayerPlan plan;
  std::string folder;  // on the disk that is not to be filled
  Abandoned abandoned;
};

// Returns why unpacking is not to go on, as soon as it is not.
awaitable<Status> UntilNoMore(std::string folder, Abandoned abandoned) {
  asio::steady_timer timer(co_await asio::this_coro::executor);
  for (;;) {
    if (abandoned->load()) co_return absl::CancelledError("it was given up");
    CTR_CO_RETURN_IF_ERROR(CheckDiskRoom(folder));
    timer.expires_after(kLookInterval);
    co_await timer.async_wait(use_awaitable);
  }
}

awaitable<StatusOr<diff::ApplyResponse>> Apply(Client client, diff::ApplyRequest request,
                                               std::string lease) {
  co_return co_await client->Call(&DiffApi::Apply, std::move(request),
                                  {.timeout = kApplyTimeout, .lease = std::move(lease)});
}

awaitable<StatusOr<diff::ApplyResponse>> ApplyWhileItMay(Client client, diff::ApplyRequest request,
                                                         Layer layer) {
  using asio::experimental::awaitable_operators::operator||;
  auto first = co_await (Apply(std::move(client), std::move(request), layer.lease) ||
                         UntilNoMore(layer.folder, layer.abandoned));
  if (first.index() == 1) co_return std::get<1>(std::move(first));
  StatusOr<diff::ApplyResponse> applied = std::get<0>(std::move(first));
  // It may have been faster than the looks.
  if (!applied.ok()) CTR_CO_RETURN_IF_ERROR(CheckDiskRoom(layer.folder));
  co_return applied;
}

// The lease first, then the look: what is found can't be collected any more.
awaitable<StatusOr<bool>> HasSnapshot(Client client, std::string lease, std::string chain_id) {
  leases::AddResourceRequest add;
  add.set_id(lease);
  add.mutable_resource()->set_id(chain_id);
  add.mutable_resource()->set_type(absl::StrCat("snapshots/", kSnapshotter));
  StatusOr<google::protobuf::Empty> added =
      co_await client->Call(&LeasesApi::AddResource, std::move(add));
  if (!added.ok()) co_return added.status();

  snapshots::StatSnapshotRequest stat;
  stat.set_snapshotter(kSnapshotter);
  stat.set_key(chain_id);
  Status found = (co_await client->Call(&SnapshotsApi::Stat, std::move(stat))).status();
  if (absl::IsNotFound(found)) co_return false;
  if (!found.ok()) co_return found;
  co_return true;
}

// Extracts the layer into the snapshot `key` and names it.
awaitable<Status> Extract(Client client, Layer layer) {
  snapshots::PrepareSnapshotRequest prepare;
  prepare.set_snapshotter(kSnapshotter);
  prepare.set_key(layer.key);
  prepare.set_parent(layer.parent);
  StatusOr<snapshots::PrepareSnapshotResponse> prepared =
      co_await client->Call(&SnapshotsApi::Prepare, std::move(prepare), {.lease = layer.lease});
  if (!prepared.ok()) co_return prepared.status();

  diff::ApplyRequest apply;
  apply.mutable_diff()->set_digest(layer.plan.digest);
  apply.mutable_diff()->set_size(layer.plan.size);
  apply.mutable_diff()->set_media_type(layer.plan.media_type);
  *apply.mutable_mounts() = std::move(*prepared->mutable_mounts());
  StatusOr<diff::ApplyResponse> applied = co_await ApplyWhileItMay(client, std::move(apply), layer);
  if (!applied.ok()) co_return applied.status();
  if (applied->applied().digest() != layer.plan.diff_id) {
    co_return MalformedImage(absl::StrCat("the image's config says ", layer.plan.diff_id,
                                          ", its content is ", applied->applied().digest(),
                                          "; build the image again"));
  }

  snapshots::CommitSnapshotRequest commit;
  commit.set_snapshotter(kSnapshotter);
  commit.set_name(layer.chain_id);
  commit.set_key(layer.key);
  co_return (
      co_await client->Call(&SnapshotsApi::Commit, std::move(commit), {.lease = layer.lease}))
      .status();
}

awaitable<Status> UnpackLayer(Client client, Layer layer) {
  Status extracted = co_await Extract(client, layer);
  if (extracted.ok()) co_return extracted;
  snapshots::RemoveSnapshotRequest remove;
  remove.set_snapshotter(kSnapshotter);
  remove.set_key(layer.key);
  // If this fails, the collector takes it after the lease.
  (co_await client->Call(&SnapshotsApi::Remove, std::move(remove), {.lease = layer.lease}))
      .status()
      .IgnoreError();
  // Another import was faster.
  if (absl::IsAlreadyExists(extracted)) co_return absl::OkStatus();
  co_return Annotate(extracted, absl::StrCat("layer ", layer.plan.digest, " can't be unpacked"));
}

}  // namespace

awaitable<StatusOr<std::string>> UnpackImage(Client client, std::string lease, ImagePlan image,
                                             std::string folder, Abandoned abandoned) {
  std::vector<std::string> chain = ChainIds(image.parsed_config.diff_ids);
  for (size_t i = 0; i < chain.size(); ++i) {
    if (abandoned->load()) co_return absl::CancelledError("it was given up");
    CTR_CO_ASSIGN_OR_RETURN(bool exists, co_await HasSnapshot(client, lease, chain[i]));
    if (exists) continue;
    Layer layer{.lease = lease,
                .key = absl::StrCat(lease, " ", chain[i]),
                .parent = i == 0 ? "" : chain[i - 1],
                .chain_id = chain[i],
                .plan = image.layers[i],
                .folder = folder,
                .abandoned = abandoned};
    CTR_CO_RETURN_IF_ERROR(co_await UnpackLayer(client, std::move(layer)));
  }
  co_return chain.empty() ? "" : chain.back();
}

}  // namespace ctr
