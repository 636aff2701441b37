#include "agent/runtime/containerd/agent_threads.h"

#include <sched.h>
#include <unistd.h>

namespace ctr {
namespace {

constexpr char kRoot[] = "/";

}  // namespace

void AgentThreads::Enlist() {
  if (::sched_getscheduler(0) != SCHED_OTHER || cgroups_.ThreadCpuCgroup() != kRoot) return;
  const std::lock_guard lock(mutex_);
  threads_.push_back(::gettid());
  if (joined_) cgroups_.MoveThread(threads_.back(), cgroup_).IgnoreError();
}

void AgentThreads::Join(bool join) {
  const std::lock_guard lock(mutex_);
  if (join == joined_) return;
  joined_ = join;
  for (int thread : threads_) {
    cgroups_.MoveThread(thread, join ? cgroup_ : kRoot).IgnoreError();
  }
  if (!join && !threads_.empty()) cgroups_.RemoveIfEmpty(cgroup_);
}

}  // namespace ctr
