#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "agent/base/error.h"
#include "agent/runtime/runtime.h"

namespace ctr {

// The cgroup hierarchies of this host: version 2, version 1, or both beside each other. A `path` is
// a cgroup's absolute path in each of them ("/ctr/<agent id>/<container id>"). Immutable; any
// thread.
class Cgroups {
 public:
  // Reads /proc/self/mountinfo.
  static StatusOr<Cgroups> Detect();
  // For tests: the same from a mountinfo's text.
  static Cgroups FromMountinfo(const std::string& mountinfo);

  // How many processes of the cgroup the kernel killed for want of memory; 0 if the cgroup is gone.
  int64_t OomKills(const std::string& path) const;

  // What the cgroup's processes use, and its limits. NOT_FOUND if it is gone.
  StatusOr<ResourceUsage> Usage(const std::string& path) const;
  // Of its processes and of those below it, also of those that are gone. Likewise.
  StatusOr<Duration> CpuTime(const std::string& path) const;

  // Whether it gets the CPU only when no cgroup beside it wants it (cpu.idle). NOT_FOUND if it is
  // gone, or the kernel has no such thing (before Linux 5.15).
  Status SetIdle(const std::string& path, bool idle) const;

  // The calling thread's in version 1's hierarchy of the CPU; "" without that.
  std::string ThreadCpuCgroup() const;
  // Moves a thread of this process in that hierarchy; makes the cgroup if there is none.
  Status MoveThread(int thread, const std::string& path) const;

  // The processes in the cgroup and in those below it.
  std::vector<int> Processes(const std::string& path) const;

  bool Exists(const std::string& path) const;
  // The names of the cgroups right below it, in any hierarchy.
  std::vector<std::string> Children(const std::string& path) const;

  // Removes the cgroup and those below it everywhere; what still runs in it is killed first. OK if
  // there is none. Blocks for as long as processes take to die.
  Status Remove(const std::string& path) const;
  // Removes the cgroup where nothing is below or in it.
  void RemoveIfEmpty(const std::string& path) const;

  const std::vector<std::string>& mount_points() const { return mount_points_; }

 private:
  std::vector<std::string> mount_points_;
  // Of version 1's controllers; "" if there is none.
  std::string memory_mount_;
  std::string cpu_mount_;
  std::string cpuacct_mount_;
  std::string pids_mount_;
  std::string unified_mount_;  // of version 2; "" if there is none
};

// Whether the process is in the cgroup `path` of any hierarchy: that a pid is still the
// container's.
bool ProcessIsInCgroup(int pid, const std::string& path);

}  // namespace ctr
