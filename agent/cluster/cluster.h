#pragma once

#include <cstdint>

#include "agent/base/asio.h"
#include "agent/base/error.h"
#include "agent/model/names.h"

namespace ctr {

// Decides which host may run an ID: at most one container of it lives across all hosts. On the
// control loop.
class Cluster {
 public:
  virtual ~Cluster() = default;

  // The right to start `name` once, as the generation that it returns: above `last_generation` and
  // every other holder's. Called before every start, also on one host. FAILED_PRECONDITION: another
  // host holds it.
  virtual awaitable<StatusOr<uint64_t>> Acquire(InstanceName name, uint64_t last_generation) = 0;

  // Gives the right back, once the container is gone.
  virtual awaitable<void> Release(InstanceName name, uint64_t generation) = 0;
};

// One host by itself holds every ID.
class LocalCluster final : public Cluster {
 public:
  awaitable<StatusOr<uint64_t>> Acquire(InstanceName name, uint64_t last_generation) override;
  awaitable<void> Release(InstanceName name, uint64_t generation) override;
};

}  // namespace ctr
