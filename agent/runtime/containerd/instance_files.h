#pragma once

#include <string>
#include <vector>

#include "agent/runtime/containerd/disk.h"
#include "agent/runtime/containerd/mount_points.h"

namespace ctr {

// What a container's spec takes from file systems.
struct InstanceFiles {
  ProcessUser user;
  MountPoints mount_points;
  std::string etc_folder;  // with the instance's EtcFiles, beside its root file system: it goes
                           // with that
};

// Looks up the user (the class's, else the image's), makes the files of /etc anew and where all
// is mounted, and looks that the hosts' sides of volumes and the AppArmor profile are there.
// FAILED_PRECONDITION says what is missing or in the way. Blocks. The root file system is not in
// use.
StatusOr<InstanceFiles> PrepareFiles(const ContainerSpec& spec, const ImageConfig& image,
                                     const Rootfs& rootfs);

}  // namespace ctr
