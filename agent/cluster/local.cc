#include "agent/cluster/cluster.h"

namespace ctr {

awaitable<StatusOr<uint64_t>> LocalCluster::Acquire(InstanceName, uint64_t last_generation) {
  co_return last_generation + 1;
}

awaitable<void> LocalCluster::Release(InstanceName, uint64_t) { co_return; }

}  // namespace ctr
