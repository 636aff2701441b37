#include "agent/runtime/containerd/image_store.h"

#include <atomic>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "agent/base/work.h"
#include "agent/model/reference.h"
#include "agent/registry/manifest.h"
#include "agent/runtime/containerd/image_content.h"
#include "agent/runtime/containerd/image_import.h"
#include "agent/runtime/containerd/image_prune.h"
#include "agent/runtime/containerd/image_record.h"
#include "agent/runtime/containerd/shielded.h"
#include "agent/runtime/image_config.h"
#include "agent/runtime/image_layout.h"

namespace ctr {
namespace {

constexpr size_t kMaxCached = 1024;

Status Unknown(const std::string& reference) {
  return Error(absl::StatusCode::kNotFound, code::kUnknownImage,
               absl::StrCat("image ", reference, " is not here: get it with `ctr image pull ",
                            reference, "`, or from a file with `ctr image import FILE`"));
}

Status Damaged(const Status& status, const std::string& reference) {
  if (!absl::IsNotFound(status) && !absl::IsInvalidArgument(status)) return status;
  return absl::FailedPreconditionError(
      absl::StrCat("image ", reference,
                   " is damaged, pull or import it again: ", std::string(status.message())));
}

}  // namespace

// What an image's documents say.
struct ImageStore::Loaded {
  std::string chain_id;
  std::string foreign;  // the platform that it is for, if it does not run here; else ""
  ImageConfig config;
  int64_t size_bytes = 0;
};

namespace {

struct Documents {
  ParsedImageConfig config;
  int64_t size_bytes = 0;
};

StatusOr<Documents> ReadDocuments(const ContainerdClient& client, std::string digest) {
  for (int depth = 0; depth <= kMaxIndexDepth; ++depth) {
    CTR_ASSIGN_OR_RETURN(std::string text, ReadDocument(client, digest));
    CTR_ASSIGN_OR_RETURN(auto parsed, ParseManifest(text, "", HostPlatform()));
    if (const auto* index = std::get_if<ImageIndex>(&parsed)) {
      digest = index->chosen.digest;
      continue;
    }
    const auto& manifest = std::get<ImageManifest>(parsed);
    Documents documents;
    documents.size_bytes = static_cast<int64_t>(text.size()) + manifest.TotalBytes();
    CTR_ASSIGN_OR_RETURN(std::string config, ReadDocument(client, manifest.config.digest));
    CTR_ASSIGN_OR_RETURN(documents.config, ParseImageConfig(config));
    return documents;
  }
  return MalformedImage("its indexes are nested too deeply");
}

WallTime TimeOf(const google::protobuf::Timestamp& timestamp) {
  return WallTime(
      std::chrono::seconds(timestamp.seconds()) +
      std::chrono::duration_cast<WallTime::duration>(std::chrono::nanoseconds(timestamp.nanos())));
}

}  // namespace

ImageStore::ImageStore(const ContainerdClient* client, asio::any_io_executor work,
                       std::string folder)
    : client_(client),
      bulk_(std::make_shared<const ContainerdClient>(client->socket(),
                                                     client->containerd_namespace())),
      work_(work),
      import_strand_(asio::make_strand(std::move(work))),
      folder_(std::move(folder)) {}

awaitable<StatusOr<std::shared_ptr<const ImageStore::Loaded>>> ImageStore::Load(
    std::string digest) {
  if (auto known = loaded_.find(digest); known != loaded_.end()) co_return known->second;
  CTR_CO_ASSIGN_OR_RETURN(Documents documents, co_await OnWork(work_, [client = bulk_, digest] {
                            return ReadDocuments(*client, digest);
                          }));
  auto loaded = std::make_shared<Loaded>();
  std::vector<std::string> chain = ChainIds(documents.config.diff_ids);
  if (!chain.empty()) loaded->chain_id = chain.back();
  if (!IsForPlatform(documents.config, HostPlatform())) {
    loaded->foreign =
        OnlyPrintable(absl::StrCat(documents.config.os, "/", documents.config.architecture));
  }
  loaded->config = std::move(documents.config.config);
  loaded->size_bytes = documents.size_bytes;
  if (loaded_.size() >= kMaxCached) loaded_.clear();
  loaded_[digest] = loaded;
  co_return std::shared_ptr<const Loaded>(loaded);
}

awaitable<StatusOr<ResolvedImage>> ImageStore::Resolve(std::string normalized_reference) {
  images::GetImageRequest request;
  request.set_name(normalized_reference);
  StatusOr<images::GetImageResponse> image =
      co_await client_->Ask(&ImagesApi::Get, std::move(request));
  if (absl::IsNotFound(image.status())) co_return Unknown(normalized_reference);
  if (!image.ok()) co_return image.status();
  std::string digest = image->image().target().digest();
  StatusOr<std::shared_ptr<const Loaded>> loaded = co_await Load(digest);
  if (!loaded.ok()) co_return Damaged(loaded.status(), normalized_reference);
  if (!(*loaded)->foreign.empty()) {
    co_return absl::FailedPreconditionError(
        absl::StrCat("image ", normalized_reference, " is for ", (*loaded)->foreign,
                     ", this host is ", PlatformName(HostPlatform()), ": ctr image pull ",
                     normalized_reference, " gets it for this host"));
  }
  co_return ResolvedImage{.reference = std::move(normalized_reference),
                          .digest = std::move(digest),
                          .chain_id = (*loaded)->chain_id,
                          .config = (*loaded)->config};
}

awaitable<StatusOr<ResolvedImage>> ImageStore::ResolveUnpacked(std::string normalized_reference) {
  CTR_CO_ASSIGN_OR_RETURN(ResolvedImage image, co_await Resolve(std::move(normalized_reference)));
  if (image.chain_id.empty()) co_return image;
  snapshots::StatSnapshotRequest stat;
  stat.set_snapshotter(kSnapshotter);
  stat.set_key(image.chain_id);
  Status found = (co_await client_->Call(&SnapshotsApi::Stat, std::move(stat))).status();
  if (absl::IsNotFound(found)) co_return Unknown(image.reference);
  if (!found.ok()) co_return found;
  co_return image;
}

awaitable<StatusOr<std::vector<std::string>>> ImageStore::Import(UniqueFd archive, std::string name,
                                                                 MakeImageRoom make_room) {
  using Names = StatusOr<std::vector<std::string>>;
  if (!name.empty()) {
    CTR_CO_ASSIGN_OR_RETURN(name, NormalizeAsSaid(name));
  }
  // However this coroutine ends, the import goes on only while somebody waits for it.
  struct GiveUp {
    std::shared_ptr<std::atomic<bool>> abandoned = std::make_shared<std::atomic<bool>>(false);
    ~GiveUp() { abandoned->store(true); }
  } give_up;
  ImageImport import{.client = bulk_,
                     .archive = std::move(archive),
                     .folder = folder_,
                     .name = std::move(name),
                     .control = co_await asio::this_coro::executor,
                     .make_room = std::move(make_room),
                     .abandoned = give_up.abandoned};
  co_return co_await Shielded<Names>(
      asio::co_spawn(import_strand_, ImportImage(std::move(import)), use_awaitable), [](Names) {});
}

awaitable<StatusOr<std::vector<ImageSummary>>> ImageStore::List() {
  StatusOr<images::ListImagesResponse> response = co_await client_->Ask(&ImagesApi::List, {});
  if (!response.ok()) co_return response.status();
  std::vector<ImageSummary> summaries;
  for (const images::Image& image : response->images()) {
    ImageSummary summary;
    summary.reference = image.name();
    summary.digest = image.target().digest();
    summary.created_at = TimeOf(image.created_at());
    // A damaged image is listed, too: it can be removed.
    StatusOr<std::shared_ptr<const Loaded>> loaded = co_await Load(summary.digest);
    if (loaded.ok()) summary.size_bytes = (*loaded)->size_bytes;
    summaries.push_back(std::move(summary));
  }
  co_return summaries;
}

awaitable<Status> ImageStore::Remove(std::string reference) {
  images::DeleteImageRequest request;
  request.set_name(reference);
  request.set_sync(true);
  Status deleted =
      (co_await client_->Call(&ImagesApi::Delete, std::move(request), {.timeout = kCollectTimeout}))
          .status();
  if (absl::IsNotFound(deleted)) {
    co_return Error(
        absl::StatusCode::kNotFound, code::kUnknownImage,
        absl::StrCat("image ", reference, " is not here: `ctr image ls` shows those that are"));
  }
  co_return deleted;
}

awaitable<StatusOr<PrunedImages>> ImageStore::Prune(PruneRequest request) {
  return ctr::PruneImages(bulk_, work_, std::move(request));
}

awaitable<Status> ImageStore::DropUnfinished() { co_return co_await DropUnfinishedImages(bulk_); }

}  // namespace ctr
