#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "agent/base/asio.h"
#include "agent/base/error.h"
#include "agent/base/fd.h"
#include "agent/runtime/containerd/client.h"
#include "agent/runtime/runtime.h"

namespace ctr {

struct ImageImport {
  std::shared_ptr<const ContainerdClient> client;
  UniqueFd archive;
  std::string folder;  // where containerd keeps images; "": elsewhere
  std::string name;    // as PlanImport's; "" for the archive's own names
  asio::any_io_executor control;
  MakeImageRoom make_room;  // asked on `control`; may be null
  // Set when nobody waits for the result any more: the import then ends and takes back what it did.
  std::shared_ptr<const std::atomic<bool>> abandoned;
};

// Loads an archive into containerd: its blobs, a snapshot of each layer, and last the images'
// names, which are returned. Everything belongs to a lease that is deleted at the end, so that what
// is not part of an image by then is collected. Blocks: runs on a strand of the work pool, and is
// not to be cancelled otherwise than by `abandoned`.
awaitable<StatusOr<std::vector<std::string>>> ImportImage(ImageImport import);

}  // namespace ctr
