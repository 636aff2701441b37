#pragma once

#include <string>
#include <vector>

#include "agent/runtime/containerd/disk.h"

namespace ctr {

// Which symlinks may lead to a VOLUME: all, or those of the image alone, not what the instance made
// of its disk earlier.
enum class Links { kAll, kOfImage };

// An image's VOLUMEs are folders of an instance's root file system, with what the image has there,
// and live as long as that. Makes those of `paths` that are missing, in a root file system that is
// not in use, and gives the paths of all, as there are no links in them. FAILED_PRECONDITION for
// one that can't be a folder. Blocks.
StatusOr<std::vector<std::string>> MakeImageVolumes(const Mounts& mounts,
                                                    const std::vector<std::string>& paths,
                                                    Links links);

}  // namespace ctr
