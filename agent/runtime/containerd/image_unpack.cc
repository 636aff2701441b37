#include "agent/runtime/containerd/image_unpack.h"

#include <sys/statvfs.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace ctr {
namespace {

using Client = std::shared_ptr<const ContainerdClient>;

constexpr Duration kApplyTimeout = std::chrono::hours(1);
// So much of the disk, and no more than so many bytes, stays free of layers.
constexpr uint64_t kFreePart = 20;
constexpr uint64_t kFreeBytes = uint64_t{1} << 30;
constexpr Duration kLookInterval = std::chrono::milliseconds(100);

// One layer on top of the snapshot `parent`.
struct Layer {
  std::string lease;
  std::string key;  // of the snapshot while it is being made
  std::string parent;
  std::string chain_id;
  LayerPlan plan;
  std::string folder;  // on the disk that is not to be filled
};

// Returns once the disk is nearly full.
awaitable<void> UntilNearlyFull(std::string folder) {
  asio::steady_timer timer(co_await asio::this_coro::executor);
  for (;;) {
    struct statvfs disk = {};
    if (!folder.empty() && ::statvfs(folder.c_str(), &disk) == 0) {
      const uint64_t unit = disk.f_frsize;
      const uint64_t floor = std::min<uint64_t>(disk.f_blocks * unit / kFreePart, kFreeBytes);
      if (disk.f_bavail * unit < floor) co_return;
    }
    timer.expires_after(kLookInterval);
    co_await timer.async_wait(use_awaitable);
  }
}

awaitable<StatusOr<diff::ApplyResponse>> Apply(Client client, diff::ApplyRequest request,
                                               std::string lease) {
  co_return co_await client->Call(&DiffApi::Apply, std::move(request),
                                  {.timeout = kApplyTimeout, .lease = std::move(lease)});
}

awaitable<StatusOr<diff::ApplyResponse>> ApplyWhileThereIsRoom(Client client,
                                                               diff::ApplyRequest request,
                                                               std::string lease,
                                                               std::string folder) {
  using asio::experimental::awaitable_operators::operator||;
  auto first = co_await (Apply(std::move(client), std::move(request), std::move(lease)) ||
                         UntilNearlyFull(std::move(folder)));
  if (first.index() == 0) co_return std::get<0>(std::move(first));
  co_return Error(absl::StatusCode::kResourceExhausted, code::kDiskFull,
                  "unpacked, it would fill the disk: it is refused; make room, if it is to be so "
                  "large");
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
  StatusOr<diff::ApplyResponse> applied =
      co_await ApplyWhileThereIsRoom(client, std::move(apply), layer.lease, layer.folder);
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
                                             std::string folder) {
  std::vector<std::string> chain = ChainIds(image.parsed_config.diff_ids);
  for (size_t i = 0; i < chain.size(); ++i) {
    CTR_CO_ASSIGN_OR_RETURN(bool exists, co_await HasSnapshot(client, lease, chain[i]));
    if (exists) continue;
    Layer layer{.lease = lease,
                .key = absl::StrCat(lease, " ", chain[i]),
                .parent = i == 0 ? "" : chain[i - 1],
                .chain_id = chain[i],
                .plan = image.layers[i],
                .folder = folder};
    CTR_CO_RETURN_IF_ERROR(co_await UnpackLayer(client, std::move(layer)));
  }
  co_return chain.empty() ? "" : chain.back();
}

}  // namespace ctr
