// How an image comes to be in containerd: under a lease, by documents whose labels hold it
// together, and last by its name.
#pragma once

#include <memory>
#include <string>

#include "agent/base/asio.h"
#include "agent/base/error.h"
#include "agent/runtime/containerd/client.h"
#include "agent/runtime/image_layout.h"

namespace ctr {

// A call that waits for containerd's collection may take as long as a large image's files.
constexpr Duration kCollectTimeout = std::chrono::minutes(10);

// A lease of a name of its own, "ctr-PURPOSE-" and more, for a day at most; returns its ID. What is
// made under it is collected before its deletion returns, unless it belongs to an image by then.
awaitable<StatusOr<std::string>> CreateLease(std::shared_ptr<const ContainerdClient> client,
                                             std::string purpose);
awaitable<Status> DeleteLease(std::shared_ptr<const ContainerdClient> client, std::string id);

// Lets go of what imports and pulls of an agent that is gone left: their leases and half-written
// blobs. Blocks.
awaitable<Status> DropUnfinishedImages(std::shared_ptr<const ContainerdClient> client);

// Config and manifest, with the labels that hold the image together: the name refers to the
// manifest, the manifest to config and layers, the config to the topmost snapshot. Blocks.
Status StoreDocuments(const ContainerdClient& client, const std::string& lease,
                      const ImagePlan& image, const std::string& chain_id);

// Points a name to a manifest or an index that is stored, as new or in place of what it pointed to.
awaitable<Status> SetImageName(std::shared_ptr<const ContainerdClient> client, std::string lease,
                               std::string name, std::string media_type, std::string document);

}  // namespace ctr
