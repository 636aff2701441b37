#pragma once

#include <memory>

#include "agent/base/asio.h"
#include "agent/base/error.h"
#include "agent/runtime/containerd/client.h"
#include "agent/runtime/runtime.h"

namespace ctr {

// What images take on the disk: their blobs, and their layers unpacked. Not what instances wrote.
// Blocks.
StatusOr<int64_t> ImageBytes(const ContainerdClient& client);

// As Runtime::PruneImages. One that only shares what is used is left alone where bytes are asked
// for. What blocks runs on `work`.
awaitable<StatusOr<PrunedImages>> PruneImages(std::shared_ptr<const ContainerdClient> client,
                                              asio::any_io_executor work, PruneRequest request);

}  // namespace ctr
