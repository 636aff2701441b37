#pragma once

#include <memory>
#include <string>
#include <vector>

#include "agent/base/pidfd.h"
#include "agent/runtime/containerd/core.h"

namespace ctr {

// A process that serves a container to containerd.
struct Shim {
  std::string container_id;
  Pidfd process;
};

// The shims of a containerd: they say its socket on their command line. Reads /proc: some
// milliseconds. Any thread.
std::vector<Shim> ShimsOf(const std::string& containerd_socket);

// Unmounts what is mounted in a folder, and deletes it; nothing is deleted below a mount that
// stays. OK if there is no such folder. Blocks.
Status RemoveFolder(const std::string& folder);

// What is left of a container that containerd has no task of: the shim, its socket, the bundle with
// its mount, the cgroup, the interface. A client that is killed while it creates a task leaves a
// shim that containerd 1.6 no longer knows. OK if there is nothing. Blocks.
Status RemoveRemains(const Core& core, const std::string& id);

// The containers that have a shim, a bundle, a mount or an interface; those that are none of ours
// left out. Blocks.
std::vector<std::string> FindRemains(const Core& core);

}  // namespace ctr
