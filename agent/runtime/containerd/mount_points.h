#pragma once

#include <map>
#include <string>
#include <vector>

#include "agent/model/isolation.h"
#include "agent/runtime/containerd/disk.h"

namespace ctr {

// What is to be mounted into a root file system, beside what every container has.
struct WantedMounts {
  std::vector<std::string> image_volumes;  // as the image writes them
  std::vector<Volume> volumes;             // the class's
  bool read_only = false;                  // the root
  bool is_new = true;                      // the disk: no instance has changed it
};

// Where that will be: no path has a link in it.
struct MountPoints {
  // Folders of the root file system, with what the image has there; they live as long as that.
  std::vector<std::string> image_volumes;
  std::vector<Volume> volumes;             // an outer one before what is in it
  std::map<std::string, std::string> etc;  // "hosts": "/etc/hosts"; without what a volume has
};

// An image, or an instance whose disk is kept, may have put links in the way of what is mounted.
// runc would follow them when the container has no root of its own yet: a volume would become its
// /dev, and through what is /dev/null there it would write to the host (CVE-2025-31133). This
// follows them first, in a root file system that is not in use, and makes what is missing. As with
// Docker, a link at /dev, /proc, /sys or one of our files of /etc is replaced. `layers`: the
// folders that `mounts` merges. FAILED_PRECONDITION says what is in the way. Blocks.
StatusOr<MountPoints> MakeMountPoints(const Mounts& mounts, const std::vector<std::string>& layers,
                                      const WantedMounts& wanted);

}  // namespace ctr
