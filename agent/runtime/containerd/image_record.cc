#include "agent/runtime/containerd/image_record.h"

#include <map>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "agent/base/ulid.h"
#include "agent/runtime/containerd/image_content.h"
#include "agent/runtime/sha256.h"

namespace ctr {
namespace {

using Client = std::shared_ptr<const ContainerdClient>;

constexpr char kLeasePrefix[] = "ctr-";
// A lease whose agent never comes back; deleting it collects garbage, which may take long.
constexpr absl::Duration kLeaseExpiry = absl::Hours(24);

}  // namespace

awaitable<StatusOr<std::string>> CreateLease(Client client, std::string purpose) {
  leases::CreateRequest request;
  request.set_id(
      absl::StrCat(kLeasePrefix, purpose, "-", NewUlid(std::chrono::system_clock::now())));
  (*request.mutable_labels())["containerd.io/gc.expire"] =
      absl::FormatTime(absl::RFC3339_sec, absl::Now() + kLeaseExpiry, absl::UTCTimeZone());
  std::string id = request.id();
  auto created = co_await client->Call(&LeasesApi::Create, std::move(request));
  if (!created.ok()) co_return created.status();
  co_return id;
}

awaitable<Status> DeleteLease(Client client, std::string id) {
  leases::DeleteRequest request;
  request.set_id(std::move(id));
  request.set_sync(true);
  // While containerd is away it is waited for: what is left would stay for a day.
  co_return (co_await client->Call(&LeasesApi::Delete, std::move(request),
                                   {.timeout = kCollectTimeout, .wait_for_ready = true}))
      .status();
}

Status StoreDocuments(const ContainerdClient& client, const std::string& lease,
                      const ImagePlan& image, const std::string& chain_id) {
  std::map<std::string, std::string> config_labels;
  if (!chain_id.empty()) {
    config_labels[absl::StrCat("containerd.io/gc.ref.snapshot.", kSnapshotter)] = chain_id;
  }
  std::map<std::string, std::string> manifest_labels = {
      {"containerd.io/gc.ref.content.config", Sha256Digest(image.config)}};
  for (size_t i = 0; i < image.layers.size(); ++i) {
    manifest_labels[absl::StrCat("containerd.io/gc.ref.content.l.", i)] = image.layers[i].digest;
  }
  CTR_RETURN_IF_ERROR(WriteDocument(client, lease, image.config, std::move(config_labels)));
  return WriteDocument(client, lease, image.manifest, std::move(manifest_labels));
}

awaitable<Status> SetImageName(Client client, std::string lease, std::string name,
                               std::string media_type, std::string manifest) {
  images::Image record;
  record.set_name(name);
  record.mutable_target()->set_media_type(media_type);
  record.mutable_target()->set_digest(Sha256Digest(manifest));
  record.mutable_target()->set_size(static_cast<int64_t>(manifest.size()));
  images::CreateImageRequest create;
  *create.mutable_image() = record;
  Status created =
      (co_await client->Call(&ImagesApi::Create, std::move(create), {.lease = lease})).status();
  if (!absl::IsAlreadyExists(created)) co_return created;
  images::UpdateImageRequest update;
  *update.mutable_image() = std::move(record);
  update.mutable_update_mask()->add_paths("target");
  co_return (co_await client->Call(&ImagesApi::Update, std::move(update), {.lease = lease}))
      .status();
}

awaitable<Status> DropUnfinishedImages(Client client) {
  StatusOr<leases::ListResponse> all = co_await client->Call(&LeasesApi::List, {});
  if (!all.ok()) co_return all.status();
  for (const leases::Lease& lease : all->leases()) {
    if (!absl::StartsWith(lease.id(), kLeasePrefix)) continue;
    Status deleted = co_await DeleteLease(client, lease.id());
    if (!deleted.ok() && !absl::IsNotFound(deleted)) co_return deleted;
  }
  co_return AbortWrites(*client, kLeasePrefix);
}

}  // namespace ctr
