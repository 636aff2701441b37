#pragma once

#include <string>

#include "agent/base/error.h"

namespace ctr {

// Which symlinks may lead to a mount point: all, those of the image alone and not what the instance
// made of its disk earlier, or none.
enum class Links { kAll, kOfImage, kNone };

struct WalkRoot {
  int fd;
  int own_files;  // what in it is not the image's
};

// What somebody wants mounted, for errors.
struct WalkTarget {
  std::string what;    // "the volume /data"
  std::string advice;  // "choose another `path` in the class"
};

// The way of `path` through a root file system, a component at a time: no link leads out of it, and
// how far it sends us is bounded. Makes the folders that are missing, and gives the place, which
// has no links in it: "/" or "/var/lib". FAILED_PRECONDITION says what is in the way. Blocks.
StatusOr<std::string> WalkToFolder(WalkRoot root, const WalkTarget& target, const std::string& path,
                                   Links links);

// The same to a file, of any kind but a folder.
StatusOr<std::string> WalkToFile(WalkRoot root, const WalkTarget& target, const std::string& path,
                                 Links links);

}  // namespace ctr
