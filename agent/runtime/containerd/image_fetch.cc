#include "agent/runtime/containerd/image_fetch.h"

#include <set>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "agent/base/disk_room.h"
#include "agent/runtime/containerd/image_content.h"
#include "agent/runtime/containerd/image_record.h"
#include "agent/runtime/image_config.h"

namespace ctr {
namespace {

// A message to containerd costs more than a few kilobytes are worth.
constexpr size_t kPieceBytes = 1 << 20;

std::vector<BlobDescriptor> BlobsOf(const ImageManifest& manifest) {
  std::vector<BlobDescriptor> blobs = {manifest.config};
  std::set<std::string> known = {manifest.config.digest};
  for (const BlobDescriptor& layer : manifest.layers) {
    if (known.insert(layer.digest).second) blobs.push_back(layer);
  }
  return blobs;
}

struct FetchedManifest {
  std::variant<ImageManifest, ImageIndex> parsed;
  NamedDocument document;
};

StatusOr<FetchedManifest> FetchManifest(RegistrySession& session, const std::string& wanted,
                                        const Platform& platform) {
  for (;;) {
    CTR_ASSIGN_OR_RETURN(RegistrySession::Document document, session.FetchManifest(wanted));
    auto parsed = ParseManifest(document.text, document.media_type, platform);
    if (parsed.ok()) {
      std::string type = std::visit([](const auto& it) { return it.media_type; }, *parsed);
      return FetchedManifest{
          *std::move(parsed),
          {std::move(document.text), std::move(type), std::move(document.digest)}};
    }
    // A mirror may answer with a page of its own, or lack the platform.
    if (!session.MayTryElsewhere()) return parsed.status();
  }
}

// INVALID_ARGUMENT if what comes is not that blob.
Status FetchOnce(const ContainerdClient& client, const std::string& lease,
                 const BlobDescriptor& blob, RegistrySession& session, const std::string& folder,
                 std::atomic<int64_t>& done_bytes) {
  CTR_ASSIGN_OR_RETURN(
      std::unique_ptr<BlobWriter> writer,
      BlobWriter::Begin(client,
                        {.lease = lease,
                         .digest = blob.digest,
                         .size = blob.size,
                         .advice = "it is corrupt in the registry, and refused; push it again"}));
  done_bytes = 0;
  if (writer->wants_content()) {
    std::string piece;
    const auto write = [&]() -> Status {
      CTR_RETURN_IF_ERROR(CheckDiskRoom(folder));
      Status appended = writer->Append(piece);
      piece.clear();
      return appended;
    };
    CTR_RETURN_IF_ERROR(session.FetchBlob(blob, [&](std::string_view data) -> Status {
      piece.append(data);
      done_bytes += static_cast<int64_t>(data.size());
      return piece.size() < kPieceBytes ? absl::OkStatus() : write();
    }));
    CTR_RETURN_IF_ERROR(write());
  }
  CTR_RETURN_IF_ERROR(writer->Commit().status());
  done_bytes = blob.size;
  return absl::OkStatus();
}

// What is found in the store is there for as long as the lease is: so first the lease.
awaitable<StatusOr<bool>> HasBlob(std::shared_ptr<const ContainerdClient> client, std::string lease,
                                  std::string digest) {
  leases::AddResourceRequest add;
  add.set_id(std::move(lease));
  add.mutable_resource()->set_id(digest);
  add.mutable_resource()->set_type("content");
  Status added = (co_await client->Call(&LeasesApi::AddResource, std::move(add))).status();
  if (!added.ok()) co_return added;
  content::InfoRequest info;
  info.set_digest(std::move(digest));
  Status found = (co_await client->Call(&ContentApi::Info, std::move(info))).status();
  if (!found.ok() && !absl::IsNotFound(found)) co_return found;
  co_return found.ok();
}

}  // namespace

awaitable<StatusOr<int64_t>> LackedBytes(std::shared_ptr<const ContainerdClient> client,
                                         std::string lease, std::vector<BlobDescriptor> blobs) {
  int64_t lacked = 0;
  for (const BlobDescriptor& blob : blobs) {
    CTR_CO_ASSIGN_OR_RETURN(bool is_here, co_await HasBlob(client, lease, blob.digest));
    if (!is_here) lacked += blob.size;
  }
  co_return lacked;
}

StatusOr<ResolvedManifest> ResolveManifest(const std::string& reference,
                                           const std::string& platform,
                                           std::shared_ptr<const ImageSettings> settings,
                                           std::shared_ptr<const std::atomic<bool>> abandoned) {
  CTR_ASSIGN_OR_RETURN(RegistryReference parts, SplitReference(reference));
  const std::string wanted = parts.Wanted();
  ResolvedManifest resolved{
      .documents = {},
      .manifest = {},
      .blobs = {},
      .platform = HostPlatform(),
      .session = RegistrySession(std::move(parts), std::move(settings), std::move(abandoned))};
  if (!platform.empty()) {
    CTR_ASSIGN_OR_RETURN(resolved.platform, ParsePlatform(platform));
    resolved.is_host_platform = PlatformName(resolved.platform) == PlatformName(HostPlatform());
  }
  std::string next = wanted;
  for (int depth = 0; depth <= kMaxIndexDepth; ++depth) {
    CTR_ASSIGN_OR_RETURN(FetchedManifest fetched,
                         FetchManifest(resolved.session, next, resolved.platform));
    resolved.documents.push_back(std::move(fetched.document));
    auto* index = std::get_if<ImageIndex>(&fetched.parsed);
    if (index == nullptr) {
      resolved.manifest = std::get<ImageManifest>(std::move(fetched.parsed));
      resolved.blobs = BlobsOf(resolved.manifest);
      return resolved;
    }
    next = index->chosen.digest;
  }
  return MalformedImage(absl::StrCat("its indexes are nested more than ", kMaxIndexDepth,
                                     " deep, which no image needs: it is refused"));
}

Status FetchIntoStore(const ContainerdClient& client, const std::string& lease,
                      const ResolvedManifest& resolved, size_t index, const std::string& folder,
                      std::atomic<int64_t>& done_bytes) {
  RegistrySession session = resolved.session;
  for (;;) {
    Status fetched = FetchOnce(client, lease, resolved.blobs[index], session, folder, done_bytes);
    // A mirror's copy may be corrupt.
    if (!absl::IsInvalidArgument(fetched) || !session.MayTryElsewhere()) return fetched;
  }
}

StatusOr<ImagePlan> PlanPulled(const ContainerdClient& client, const ResolvedManifest& resolved) {
  ImagePlan plan;
  plan.manifest = resolved.documents.back().text;
  plan.manifest_media_type = resolved.documents.back().media_type;
  CTR_ASSIGN_OR_RETURN(plan.config, ReadDocument(client, resolved.manifest.config.digest));
  CTR_ASSIGN_OR_RETURN(plan.parsed_config, ParseImageConfig(plan.config));
  const ParsedImageConfig& config = plan.parsed_config;
  if (!IsForPlatform(config, resolved.platform)) {
    return Error(absl::StatusCode::kNotFound, code::kUnknownImage,
                 absl::StrCat("it has nothing for ", PlatformName(resolved.platform), ", only for ",
                              config.os, "/", config.architecture));
  }
  const std::vector<BlobDescriptor>& layers = resolved.manifest.layers;
  if (layers.size() != config.diff_ids.size()) {
    return MalformedImage(absl::StrCat("its manifest names ", layers.size(),
                                       " layers, and its config ", config.diff_ids.size()));
  }
  for (size_t i = 0; i < layers.size(); ++i) {
    plan.layers.push_back({.file = "",
                           .digest = layers[i].digest,
                           .media_type = layers[i].media_type,
                           .size = layers[i].size,
                           .diff_id = config.diff_ids[i]});
  }
  return plan;
}

Status StorePulled(const ContainerdClient& client, const std::string& lease, const ImagePlan& plan,
                   const std::string& chain_id, const ResolvedManifest& resolved) {
  CTR_RETURN_IF_ERROR(StoreDocuments(client, lease, plan, chain_id));
  // No name leads to the indexes of another platform's image.
  if (!resolved.is_host_platform) return absl::OkStatus();
  for (size_t i = resolved.documents.size() - 1; i-- > 0;) {
    // An index is shared by the images of all its platforms: each has a label of its own.
    const std::string& child = resolved.documents[i + 1].digest;
    const std::string label = absl::StrCat("containerd.io/gc.ref.content.m.", child.substr(7));
    CTR_RETURN_IF_ERROR(WriteDocument(client, lease, resolved.documents[i].text, {{label, child}}));
  }
  return absl::OkStatus();
}

}  // namespace ctr
