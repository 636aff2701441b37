#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/base/asio.h"
#include "agent/base/error.h"
#include "agent/base/fd.h"
#include "agent/runtime/containerd/client.h"
#include "agent/runtime/oci_spec.h"
#include "agent/runtime/runtime.h"

namespace ctr {

// An image of this host's platform, unpacked.
struct ResolvedImage {
  std::string reference;
  std::string digest;    // of what the name points to: a manifest or an index
  std::string chain_id;  // the snapshot to prepare from; "" for an image without layers
  ImageConfig config;
};

// The images in containerd's namespace. Owned by the runtime; home loop: control, its functions are
// called there and are done before it is destroyed. What blocks runs on `work`, which is joined
// before the control loop's context is destroyed; `client` outlives the store.
class ImageStore {
 public:
  // `folder`: as UnpackImage's.
  ImageStore(const ContainerdClient* client, asio::any_io_executor work, std::string folder);

  // The image called `normalized_reference`: one Images.Get, and its manifest and config the first
  // time that its digest is seen. NOT_FOUND (unknown_image) says to get it; FAILED_PRECONDITION if
  // it is for another machine.
  awaitable<StatusOr<ResolvedImage>> Resolve(std::string normalized_reference);
  // The same, but NOT_FOUND also if its layers are not there any more: got again, they would be.
  awaitable<StatusOr<ResolvedImage>> ResolveUnpacked(std::string normalized_reference);

  // As Runtime::ImportImages, Runtime::ListImages, Runtime::RemoveImage. One import at a time has a
  // thread of the pool. A cancelled import takes back what it did, later.
  awaitable<StatusOr<std::vector<std::string>>> Import(UniqueFd archive, std::string name,
                                                       MakeImageRoom make_room);
  awaitable<StatusOr<std::vector<ImageSummary>>> List();
  awaitable<Status> Remove(std::string reference);
  awaitable<StatusOr<PrunedImages>> Prune(PruneRequest request);

  // For what takes long.
  const std::shared_ptr<const ContainerdClient>& bulk() const { return bulk_; }

  // Lets go of what imports and pulls of an earlier agent left unfinished. Once, before the first
  // Import.
  awaitable<Status> DropUnfinished();

 private:
  struct Loaded;

  // By the digest of what a name points to.
  awaitable<StatusOr<std::shared_ptr<const Loaded>>> Load(std::string digest);

  const ContainerdClient* const client_;
  // For the work pool: a connection of its own, so that bulk does not hold up control's calls, and
  // that an import may outlive us.
  const std::shared_ptr<const ContainerdClient> bulk_;
  const asio::any_io_executor work_;
  const asio::any_io_executor import_strand_;
  const std::string folder_;

  std::map<std::string, std::shared_ptr<const Loaded>> loaded_;
};

}  // namespace ctr
