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

// The images in containerd's namespace. Owned by the runtime; home loop: control, its public
// functions are called there. What blocks runs on `work`, which outlives it, as does `client`.
class ImageStore {
 public:
  ImageStore(const ContainerdClient* client, asio::any_io_executor work);

  // The image called `normalized_reference`: one Images.Get, and the manifest and config the first
  // time that its digest is seen. NOT_FOUND (unknown_image) says to import it.
  awaitable<StatusOr<ResolvedImage>> Resolve(std::string normalized_reference);

  // As Runtime::ImportImages, Runtime::ListImages, Runtime::RemoveImage.
  awaitable<StatusOr<std::vector<std::string>>> Import(UniqueFd archive, std::string name);
  awaitable<StatusOr<std::vector<ImageSummary>>> List();
  awaitable<Status> Remove(std::string reference);

 private:
  const ContainerdClient* const client_;
  const asio::any_io_executor work_;
};

}  // namespace ctr
