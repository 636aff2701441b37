#include "agent/runtime/containerd/image_prune.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "agent/base/work.h"
#include "agent/runtime/containerd/disk.h"
#include "agent/runtime/containerd/image_content.h"
#include "agent/runtime/containerd/image_record.h"

namespace ctr {
namespace {

int64_t SnapshotBytes(const ContainerdClient& client, const std::string& name) {
  auto call = client.NewContext();
  snapshots::UsageRequest ask;
  ask.set_snapshotter(kSnapshotter);
  ask.set_key(name);
  snapshots::UsageResponse usage;
  // One that was just removed takes nothing.
  return client.snapshots()->Usage(call.get(), ask, &usage).ok() ? usage.size() : 0;
}

struct Held {
  std::set<std::string> digests;    // of blobs
  std::vector<std::string> layers;  // the snapshots of their names
};

// What belongs to pulls and imports that are under way.
awaitable<StatusOr<Held>> HeldByLeases(std::shared_ptr<const ContainerdClient> client) {
  Held held;
  CTR_CO_ASSIGN_OR_RETURN(leases::ListResponse all, co_await client->Ask(&LeasesApi::List, {}));
  for (const leases::Lease& lease : all.leases()) {
    leases::ListResourcesRequest ask;
    ask.set_id(lease.id());
    StatusOr<leases::ListResourcesResponse> resources =
        co_await client->Ask(&LeasesApi::ListResources, std::move(ask));
    if (absl::IsNotFound(resources.status())) continue;  // it is over
    if (!resources.ok()) co_return resources.status();
    for (const leases::Resource& resource : resources->resources()) {
      if (resource.type() == "content") held.digests.insert(resource.id());
      if (absl::StartsWith(resource.type(), "snapshots/")) held.layers.push_back(resource.id());
    }
  }
  co_return held;
}

// What stays of the store, in bytes, if all goes but these: they, what the labels say that they
// hold, and what containers stand on. Blocks.
StatusOr<int64_t> HeldBytes(const ContainerdClient& client, Held held) {
  auto& [digests, layers] = held;
  std::map<std::string, content::Info> blobs;
  std::map<std::string, std::string> parents;  // of layers
  CTR_ASSIGN_OR_RETURN(std::vector<content::Info> all_blobs, ListBlobs(client));
  for (content::Info& blob : all_blobs) blobs[blob.digest()] = std::move(blob);
  CTR_ASSIGN_OR_RETURN(std::vector<snapshots::Info> all_snapshots, ListSnapshots(client));
  for (const snapshots::Info& info : all_snapshots) {
    if (info.kind() == snapshots::COMMITTED) {
      parents[info.name()] = info.parent();
    } else {
      layers.push_back(info.parent());
    }
  }
  int64_t bytes = 0;
  while (!digests.empty()) {
    const auto found = blobs.extract(digests.extract(digests.begin()).value());
    if (found.empty()) continue;  // or seen before
    bytes += found.mapped().size();
    for (const auto& [label, value] : found.mapped().labels()) {
      if (absl::StartsWith(label, "containerd.io/gc.ref.content.")) digests.insert(value);
      if (absl::StartsWith(label, "containerd.io/gc.ref.snapshot.")) layers.push_back(value);
    }
  }
  while (!layers.empty()) {
    const auto found = parents.extract(layers.back());
    layers.pop_back();
    if (found.empty()) continue;
    bytes += SnapshotBytes(client, found.key());
    layers.push_back(found.mapped());
  }
  return bytes;
}

std::set<std::string> DigestsOf(const std::set<std::string>& names,
                                const images::ListImagesResponse& all) {
  std::set<std::string> digests;
  for (const images::Image& image : all.images()) {
    if (names.contains(image.name())) digests.insert(image.target().digest());
  }
  return digests;
}

std::pair<int64_t, int32_t> UpdatedAt(const images::Image& image) {
  return {image.updated_at().seconds(), image.updated_at().nanos()};
}

// The images that nobody uses, the one that was pulled or imported the longest ago first.
std::vector<images::Image> Unused(const images::ListImagesResponse& all,
                                  const PruneRequest& request) {
  const std::set<std::string> used = request.used();
  const std::set<std::string> used_digests = DigestsOf(used, all);
  std::vector<images::Image> unused;
  for (const images::Image& image : all.images()) {
    const bool frees_nothing =
        request.down_to_bytes && used_digests.contains(image.target().digest());
    if (!used.contains(image.name()) && !frees_nothing) unused.push_back(image);
  }
  std::sort(unused.begin(), unused.end(), [](const images::Image& a, const images::Image& b) {
    return UpdatedAt(a) < UpdatedAt(b);
  });
  return unused;
}

// Not if it has been removed, or pulled or imported again.
awaitable<StatusOr<bool>> IsAsListed(std::shared_ptr<const ContainerdClient> client,
                                     images::Image image) {
  images::GetImageRequest get;
  get.set_name(image.name());
  StatusOr<images::GetImageResponse> now = co_await client->Ask(&ImagesApi::Get, std::move(get));
  if (absl::IsNotFound(now.status())) co_return false;
  if (!now.ok()) co_return now.status();
  co_return UpdatedAt(now->image()) == UpdatedAt(image);
}

}  // namespace

StatusOr<int64_t> ImageBytes(const ContainerdClient& client) {
  int64_t bytes = 0;
  CTR_ASSIGN_OR_RETURN(std::vector<content::Info> blobs, ListBlobs(client));
  for (const content::Info& blob : blobs) bytes += blob.size();
  CTR_ASSIGN_OR_RETURN(std::vector<snapshots::Info> found, ListSnapshots(client));
  for (const snapshots::Info& info : found) {
    if (info.kind() == snapshots::COMMITTED) bytes += SnapshotBytes(client, info.name());
  }
  return bytes;
}

awaitable<StatusOr<PrunedImages>> PruneImages(std::shared_ptr<const ContainerdClient> client,
                                              asio::any_io_executor work, PruneRequest request) {
  const auto measure = [client] { return ImageBytes(*client); };
  PrunedImages pruned;
  CTR_CO_ASSIGN_OR_RETURN(const int64_t before, co_await OnWork(work, measure));
  pruned.left_bytes = before;
  StatusOr<images::ListImagesResponse> all = co_await client->Ask(&ImagesApi::List, {});
  if (!all.ok()) co_return all.status();
  const int64_t wanted = request.down_to_bytes.value_or(0);
  if (request.only_if_enough && before > wanted) {
    CTR_CO_ASSIGN_OR_RETURN(Held held, co_await HeldByLeases(client));
    held.digests.merge(DigestsOf(request.used(), *all));
    CTR_CO_ASSIGN_OR_RETURN(pruned.left_bytes, co_await OnWork(work, [client, held] {
                              return HeldBytes(*client, held);
                            }));
    if (pruned.left_bytes > wanted) co_return pruned;
    pruned.left_bytes = before;
  }
  for (const images::Image& image : Unused(*all, request)) {
    if (request.down_to_bytes && pruned.left_bytes <= *request.down_to_bytes) break;
    CTR_CO_ASSIGN_OR_RETURN(const bool is_as_listed, co_await IsAsListed(client, image));
    if (!is_as_listed || request.used().contains(image.name())) continue;
    images::DeleteImageRequest remove;
    remove.set_name(image.name());
    remove.set_sync(true);
    Status removed =
        (co_await client->Call(&ImagesApi::Delete, std::move(remove), {.timeout = kCollectTimeout}))
            .status();
    if (!removed.ok() && !absl::IsNotFound(removed)) co_return removed;
    pruned.references.push_back(image.name());
    CTR_CO_ASSIGN_OR_RETURN(pruned.left_bytes, co_await OnWork(work, measure));
  }
  pruned.freed_bytes = std::max<int64_t>(before - pruned.left_bytes, 0);
  co_return pruned;
}

}  // namespace ctr
