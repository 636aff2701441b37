#include "agent/runtime/containerd/image_prune.h"

#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/work.h"
#include "agent/runtime/containerd/image_content.h"

namespace ctr {
namespace {

constexpr Duration kCollectTimeout = std::chrono::minutes(10);

StatusOr<int64_t> SnapshotBytes(const ContainerdClient& client) {
  auto context = client.NewContext();
  snapshots::ListSnapshotsRequest request;
  request.set_snapshotter(kSnapshotter);
  auto stream = client.snapshots()->List(context.get(), request);
  std::vector<std::string> layers;
  snapshots::ListSnapshotsResponse response;
  while (stream->Read(&response)) {
    for (const snapshots::Info& info : response.info()) {
      if (info.kind() == snapshots::COMMITTED) layers.push_back(info.name());
    }
  }
  Status listed = client.FromGrpc(stream->Finish());
  if (!listed.ok()) return listed;
  int64_t bytes = 0;
  for (const std::string& name : layers) {
    auto call = client.NewContext();
    snapshots::UsageRequest ask;
    ask.set_snapshotter(kSnapshotter);
    ask.set_key(name);
    snapshots::UsageResponse usage;
    // One that was just removed takes nothing.
    if (client.snapshots()->Usage(call.get(), ask, &usage).ok()) bytes += usage.size();
  }
  return bytes;
}

// The images that nobody uses, the one that was pulled or imported the longest ago first.
std::vector<images::Image> Unused(const images::ListImagesResponse& all,
                                  const PruneRequest& request) {
  std::set<std::string> used_digests;
  for (const images::Image& image : all.images()) {
    if (request.used.contains(image.name())) used_digests.insert(image.target().digest());
  }
  std::vector<images::Image> unused;
  for (const images::Image& image : all.images()) {
    const bool frees_nothing =
        request.down_to_bytes && used_digests.contains(image.target().digest());
    if (!request.used.contains(image.name()) && !frees_nothing) unused.push_back(image);
  }
  std::sort(unused.begin(), unused.end(), [](const images::Image& a, const images::Image& b) {
    return std::pair(a.updated_at().seconds(), a.updated_at().nanos()) <
           std::pair(b.updated_at().seconds(), b.updated_at().nanos());
  });
  return unused;
}

}  // namespace

StatusOr<int64_t> ImageBytes(const ContainerdClient& client) {
  CTR_ASSIGN_OR_RETURN(int64_t content, ContentBytes(client));
  CTR_ASSIGN_OR_RETURN(int64_t layers, SnapshotBytes(client));
  return content + layers;
}

awaitable<StatusOr<PrunedImages>> PruneImages(std::shared_ptr<const ContainerdClient> client,
                                              asio::any_io_executor work, PruneRequest request) {
  const auto measure = [client] { return ImageBytes(*client); };
  PrunedImages pruned;
  CTR_CO_ASSIGN_OR_RETURN(const int64_t before, co_await OnWork(work, measure));
  pruned.left_bytes = before;
  StatusOr<images::ListImagesResponse> all = co_await client->Ask(&ImagesApi::List, {});
  if (!all.ok()) co_return all.status();
  for (const images::Image& image : Unused(*all, request)) {
    if (request.down_to_bytes && pruned.left_bytes <= *request.down_to_bytes) break;
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
