#pragma once

#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "agent/runtime/containerd/cgroup.h"

namespace ctr {

// The agent's threads that carry traffic, and where they compete for the CPU. Each is woken twice
// for a request, and the second time it has just run: beside one that keeps the CPU busy, the
// kernel would have it wait for its tick, were it not for the rank that siblings have
// (Cgroups::SetIdle). So they are the containers' siblings while one of these is behind, and only
// then: they would share in what all containers have together. With version 2, where a process's
// threads can't be among other processes' cgroups, nothing is done. Any thread.
class AgentThreads {
 public:
  // `cgroup`: beside the containers'.
  AgentThreads(Cgroups cgroups, std::string cgroup)
      : cgroups_(std::move(cgroups)), cgroup_(std::move(cgroup)) {}

  // The calling thread is one from now on, until it ends; not if whoever started the agent gave it
  // a cgroup or a scheduling policy.
  void Enlist();

  // What can't be moved stays where it is.
  void Join(bool join);

 private:
  const Cgroups cgroups_;
  const std::string cgroup_;
  std::mutex mutex_;
  std::vector<int> threads_;
  bool joined_ = false;
};

}  // namespace ctr
