#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "agent/base/asio.h"
#include "agent/base/error.h"
#include "agent/runtime/containerd/client.h"
#include "agent/runtime/image_layout.h"

namespace ctr {

// Makes a snapshot of each of the image's layers that has none yet, named by its chain ID; the
// layers are in the content store. What is made and what is found belongs to the lease. Returns the
// topmost layer's chain ID, "" for an image without layers. A layer that would fill the disk below
// `folder` (CheckDiskRoom) is given up while there is room, however small it is packed. CANCELLED
// soon after `abandoned` is true.
awaitable<StatusOr<std::string>> UnpackImage(std::shared_ptr<const ContainerdClient> client,
                                             std::string lease, ImagePlan image, std::string folder,
                                             std::shared_ptr<const std::atomic<bool>> abandoned);

}  // namespace ctr
