#include "agent/runtime/containerd/image_import.h"

#include <exception>
#include <map>
#include <set>
#include <utility>

#include <spdlog/spdlog.h>

#include "absl/strings/str_cat.h"
#include "agent/base/disk_room.h"
#include "agent/base/work.h"
#include "agent/runtime/containerd/image_archive.h"
#include "agent/runtime/containerd/image_content.h"
#include "agent/runtime/containerd/image_record.h"
#include "agent/runtime/containerd/image_unpack.h"
#include "agent/runtime/image_layout.h"
#include "agent/runtime/sha256.h"

namespace ctr {
namespace {

using Client = std::shared_ptr<const ContainerdClient>;
using Names = std::vector<std::string>;

constexpr char kDockerLayer[] = "application/vnd.docker.image.rootfs.diff.tar";

// A layer that is not packed has to be what the image's config says: unpacking would tell, but is
// left out where a layer of that name is unpacked already.
Status CheckPlainLayer(const LayerPlan& layer, const std::string& digest) {
  if (layer.diff_id == digest) return absl::OkStatus();
  return MalformedImage(absl::StrCat("layer ", layer.file, " is damaged: the image's config says ",
                                     layer.diff_id, ", its content is ", digest,
                                     "; make the archive again"));
}

// Stores one layer of the archive for every image that has it.
Status StoreLayer(const ImageImport& import, const std::string& lease,
                  const std::vector<LayerPlan*>& users, const ImageArchive::Read& read) {
  BlobToWrite blob{.lease = lease, .digest = users.front()->digest, .size = users.front()->size};
  auto read_on = [&]() -> StatusOr<std::string_view> {
    if (import.abandoned->load()) return absl::CancelledError("the import was given up");
    CTR_RETURN_IF_ERROR(CheckDiskRoom(import.folder));
    return read();
  };
  CTR_ASSIGN_OR_RETURN(WrittenBlob written, WriteBlob(*import.client, blob, read_on));
  for (LayerPlan* layer : users) {
    if (!layer->digest.empty()) continue;
    if (written.packing == Packing::kNone) {
      CTR_RETURN_IF_ERROR(CheckPlainLayer(*layer, written.digest));
    }
    layer->digest = written.digest;
    layer->media_type =
        absl::StrCat(kDockerLayer, written.packing == Packing::kGzip ? ".gzip" : "");
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

// On control, where who waits for the import says that nobody does any more.
awaitable<Status> AskForRoom(MakeImageRoom make_room,
                             std::shared_ptr<const std::atomic<bool>> abandoned) {
  if (abandoned->load()) co_return absl::CancelledError("the import was given up");
  co_return co_await make_room(0);
}

// A name with a digest promises what is behind it.
Status CheckDigests(const ImagePlan& image) {
  const std::string digest = Sha256Digest(image.manifest);
  for (const std::string& name : image.names) {
    const size_t at = name.find('@');
    if (at == std::string::npos || name.substr(at + 1) == digest) continue;
    return Error(absl::StatusCode::kInvalidArgument, code::kBadRequest,
                 absl::StrCat(name, " names another digest than the image's, which is ", digest,
                              "; leave it out of the name"));
  }
  return absl::OkStatus();
}

awaitable<StatusOr<Names>> Load(ImageImport& import, std::string lease, ImageArchive& archive,
                                std::vector<ImagePlan> images) {
  CTR_CO_RETURN_IF_ERROR(StoreLayers(import, lease, archive, images));
  for (ImagePlan& image : images) {
    if (import.abandoned->load()) co_return absl::CancelledError("the import was given up");
    CTR_CO_ASSIGN_OR_RETURN(
        std::string chain_id,
        co_await UnpackImage(import.client, lease, image, import.folder, import.abandoned));
    if (image.manifest.empty()) image.manifest = MakeManifest(image);
    CTR_CO_RETURN_IF_ERROR(CheckDigests(image));
    CTR_CO_RETURN_IF_ERROR(StoreDocuments(*import.client, lease, image, chain_id));
  }
  if (import.make_room) {
    CTR_CO_RETURN_IF_ERROR(
        co_await RunOn(import.control, AskForRoom(import.make_room, import.abandoned)));
  }
  // Names come last: a failed import leaves none.
  Names names;
  for (const ImagePlan& image : images) {
    for (const std::string& name : image.names) {
      CTR_CO_RETURN_IF_ERROR(co_await SetImageName(import.client, lease, name,
                                                   image.manifest_media_type, image.manifest));
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
  CTR_CO_ASSIGN_OR_RETURN(ImageArchive archive,
                          ImageArchive::Open(std::move(import.archive), import.abandoned));
  CTR_CO_ASSIGN_OR_RETURN(ArchiveContents contents, archive.Scan());
  CTR_CO_ASSIGN_OR_RETURN(std::vector<ImagePlan> images,
                          PlanImport(contents, import.name, HostPlatform()));
  contents = {};
  CTR_CO_ASSIGN_OR_RETURN(std::string lease, co_await CreateLease(import.client, "import"));
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

}  // namespace ctr
