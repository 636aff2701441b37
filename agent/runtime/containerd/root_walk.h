#pragma once

#include <set>
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

struct WalkRules {
  Links links = Links::kNone;
  enum class Make { kNothing, kFolders, kFile } make = Make::kNothing;
  std::set<std::string> stops = {};  // what is there does not matter, nor what is below
};

// The way of `path` through a root file system, a component at a time: no link leads out of it, and
// how far it sends us is bounded. Gives the place, which has no links in it ("/" or "/var/lib"), or
// the stop on its way there. With kFolders, or kFile of any kind but a folder, it is there then;
// with kNothing it need not be. FAILED_PRECONDITION says what is in the way. Blocks.
StatusOr<std::string> WalkTo(WalkRoot root, const WalkTarget& target, const std::string& path,
                             const WalkRules& rules);

}  // namespace ctr
