#include "agent/runtime/containerd/image_import.h"

#include <exception>
#include <map>
#include <set>
#include <utility>

#include <spdlog/spdlog.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "agent/base/ulid.h"
#include "agent/runtime/containerd/image_archive.h"
#include "agent/runtime/containerd/image_content.h"
#include "agent/runtime/containerd/image_unpack.h"
#include "agent/runtime/image_layout.h"
#include "agent/runtime/sha256.h"

namespace ctr {
namespace {

using Client = std::shared_ptr<const ContainerdClient>;
using Names = std::vector<std::string>;

constexpr char kLeasePrefix[] = "ctr-import-";
constexpr char kDockerLayer[] = "application/vnd.docker.image.rootfs.diff.tar";
// A lease whose agent never comes back; deleting it collects garbage, which may take long.
constexpr absl::Duration kLeaseExpiry = absl::Hours(24);
constexpr Duration kCollectTimeout = std::chrono::minutes(10);

awaitable<StatusOr<std::string>> CreateLease(Client client) {
  leases::CreateRequest request;
  request.set_id(absl::StrCat(kLeasePrefix, NewUlid(std::chrono::system_clock::now())));
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
  co_return (
      co_await client->Call(&LeasesApi::Delete, std::move(request), {.timeout = kCollectTimeout}))
      .status();
}

// Stores one layer of the archive for every image that has it.
Status StoreLayer(const ImageImport& import, const std::string& lease,
                  const std::vector<LayerPlan*>& users, const ImageArchive::Read& read) {
  BlobToWrite blob{.lease = lease, .digest = users.front()->digest, .size = users.front()->size};
  auto read_on = [&]() -> StatusOr<std::string_view> {
    if (import.abandoned->load()) return absl::CancelledError("the import was given up");
    return read();
  };
  CTR_ASSIGN_OR_RETURN(WrittenBlob written, WriteBlob(*import.client, blob, read_on));
  for (LayerPlan* layer : users) {
    if (!layer->digest.empty()) continue;
    layer->digest = written.digest;
    layer->media_type = absl::StrCat(kDockerLayer, written.gzipped ? ".gzip" : "");
  }
  return absl::OkStatus();
}

Status StoreLayers(const ImageImport& import, const std::string& lease, ImageArchive& archive,
                   std::vector<ImagePlan>& images) {
  std::map<std::string, std::vector<LayerPlan*>> users;
  std::set<std::string> files;
  for (ImagePlan& image : images) {
    for (LayerPlan& layer : image.layers) {
      users[layer.file].push_back(&layer);
      files.insert(layer.file);
    }
  }
  return archive.ReadFiles(std::move(files),
                           [&](const std::string& file, const ImageArchive::Read& read) {
                             return StoreLayer(import, lease, users.at(file), read);
                           });
}

// Config and manifest, with the labels that hold the image together: the name refers to the
// manifest, the manifest to config and layers, the config to the topmost snapshot.
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

// Points a name to the image, as new or in place of what it pointed to.
awaitable<Status> SetName(Client client, std::string lease, std::string name,
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

awaitable<StatusOr<Names>> Load(ImageImport& import, std::string lease, ImageArchive& archive,
                                std::vector<ImagePlan> images) {
  CTR_CO_RETURN_IF_ERROR(StoreLayers(import, lease, archive, images));
  for (ImagePlan& image : images) {
    if (import.abandoned->load()) co_return absl::CancelledError("the import was given up");
    CTR_CO_ASSIGN_OR_RETURN(std::string chain_id,
                            co_await UnpackImage(import.client, lease, image));
    if (image.manifest.empty()) image.manifest = MakeManifest(image);
    CTR_CO_RETURN_IF_ERROR(StoreDocuments(*import.client, lease, image, chain_id));
  }
  // Names come last: a failed import leaves none.
  Names names;
  for (const ImagePlan& image : images) {
    for (const std::string& name : image.names) {
      CTR_CO_RETURN_IF_ERROR(
          co_await SetName(import.client, lease, name, image.manifest_media_type, image.manifest));
      names.push_back(name);
    }
  }
  co_return names;
}

// An exception must not keep the lease from being deleted.
awaitable<StatusOr<Names>> LoadWithoutThrowing(ImageImport& import, std::string lease,
                                               ImageArchive& archive,
                                               std::vector<ImagePlan> images) {
  try {
    co_return co_await Load(import, std::move(lease), archive, std::move(images));
  } catch (const std::exception& exception) {
    co_return absl::InternalError(exception.what());
  }
}

awaitable<StatusOr<Names>> ImportArchive(ImageImport& import) {
  CTR_CO_ASSIGN_OR_RETURN(ImageArchive archive, ImageArchive::Open(std::move(import.archive)));
  CTR_CO_ASSIGN_OR_RETURN(ArchiveContents contents, archive.Scan());
  CTR_CO_ASSIGN_OR_RETURN(std::vector<ImagePlan> images,
                          PlanImport(contents, import.name, HostPlatform()));
  contents = {};
  CTR_CO_ASSIGN_OR_RETURN(std::string lease, co_await CreateLease(import.client));
  StatusOr<Names> names = co_await LoadWithoutThrowing(import, lease, archive, std::move(images));
  if (Status deleted = co_await DeleteLease(import.client, lease); !deleted.ok()) {
    spdlog::warn("import: lease {} expires in a day, it can't be deleted: {}", lease,
                 deleted.ToString());
  }
  co_return names;
}

}  // namespace

awaitable<StatusOr<Names>> ImportImage(ImageImport import) {
  StatusOr<Names> names = co_await ImportArchive(import);
  if (!names.ok()) co_return Annotate(names.status(), "cannot import the archive");
  co_return names;
}

awaitable<Status> DropUnfinishedImports(Client client) {
  StatusOr<leases::ListResponse> all = co_await client->Call(&LeasesApi::List, {});
  if (!all.ok()) co_return all.status();
  for (const leases::Lease& lease : all->leases()) {
    if (!absl::StartsWith(lease.id(), kLeasePrefix)) continue;
    Status deleted = co_await DeleteLease(client, lease.id());
    if (!deleted.ok() && !absl::IsNotFound(deleted)) co_return deleted;
  }
  co_return absl::OkStatus();
}

}  // namespace ctr
