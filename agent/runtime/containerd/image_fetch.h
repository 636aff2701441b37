// The steps of a pull that block: what comes from the registry and goes into the content store.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "agent/base/asio.h"
#include "agent/base/error.h"
#include "agent/registry/session.h"
#include "agent/runtime/containerd/client.h"
#include "agent/runtime/image_layout.h"

namespace ctr {

// A manifest or an index as the registry serves it.
struct NamedDocument {
  std::string text;
  std::string media_type;
  std::string digest;
};

// What a reference is in its registry, for one platform.
struct ResolvedManifest {
  std::vector<NamedDocument> documents;  // indexes, the outermost first, and last the manifest
  ImageManifest manifest;
  std::vector<BlobDescriptor> blobs;  // what is to be fetched: the config, then each layer once
  Platform platform;
  bool is_host_platform = true;
  RegistrySession session;  // that got them

  // What the image's name points to: what the registry has under it, so that both have one digest.
  // Of another platform's image the manifest alone, for the index would lead to ours.
  const NamedDocument& Named() const {
    return is_host_platform ? documents.front() : documents.back();
  }
};

// `platform`: "" for this host's. Errors as RegistrySession's, and ParseManifest's.
StatusOr<ResolvedManifest> ResolveManifest(const std::string& reference,
                                           const std::string& platform,
                                           std::shared_ptr<const ImageSettings> settings,
                                           std::shared_ptr<const std::atomic<bool>> abandoned);

// How many bytes of `blobs` the store lacks. What it has belongs to the lease from then on, and so
// stays. Does not block.
awaitable<StatusOr<int64_t>> LackedBytes(std::shared_ptr<const ContainerdClient> client,
                                         std::string lease, std::vector<BlobDescriptor> blobs);

// Fetches the blob `index` under the lease, unless the store has it; `done_bytes` counts along.
// `folder`: as CheckDiskRoom's.
Status FetchIntoStore(const ContainerdClient& client, const std::string& lease,
                      const ResolvedManifest& resolved, size_t index, const std::string& folder,
                      std::atomic<int64_t>& done_bytes);

// What is to be unpacked, once the config is in the store. NOT_FOUND if it is for another platform.
StatusOr<ImagePlan> PlanPulled(const ContainerdClient& client, const ResolvedManifest& resolved);

// Config, manifest and indexes, with the labels that hold them together.
Status StorePulled(const ContainerdClient& client, const std::string& lease, const ImagePlan& plan,
                   const std::string& chain_id, const ResolvedManifest& resolved);

}  // namespace ctr
