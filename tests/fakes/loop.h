#pragma once

#include "agent/base/asio.h"

namespace ctr {

// An io_context of one thread whose waiting coroutines can be ended before what they refer to: a
// context that is destroyed last, as its executors demand, would destroy them after it.
class Loop : public asio::io_context {
 public:
  Loop() : asio::io_context(1) {}

  // Destroys every coroutine and handler that waits. Not while it runs.
  void DropHandlers() { asio::io_context::shutdown(); }
};

}  // namespace ctr
