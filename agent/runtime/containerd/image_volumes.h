#pragma once

#include <memory>
#include <string>
#include <vector>

#include "agent/runtime/containerd/core.h"
#include "agent/runtime/runtime.h"

namespace ctr {

// An image's VOLUMEs (`paths`) in a container that is made and not started. They are folders of its
// root file system, with what the image has there, and live as long as that. One that is missing is
// made; where the root is read-only, they are writable all the same. What lies below another mount
// is left as it is. FAILED_PRECONDITION for a path that can't be a folder.
awaitable<Status> OpenImageVolumes(std::shared_ptr<Core> core, ContainerFiles container,
                                   std::vector<std::string> paths, bool read_only);

}  // namespace ctr
