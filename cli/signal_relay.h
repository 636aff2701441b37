#pragma once

#include <functional>
#include <thread>

#include "agent/base/fd.h"

namespace ctr::cli {

// While it lives, SIGINT and SIGTERM end nothing: each is given to `handle`, on a thread of its
// own. Made before any other thread is, which would take them.
class SignalRelay {
 public:
  explicit SignalRelay(std::function<void(int signal)> handle);
  ~SignalRelay();  // returns once `handle` is not called any more

 private:
  void Run();

  const std::function<void(int)> handle_;
  UniqueFd signals_;
  UniqueFd stop_;
  std::thread thread_;
};

}  // namespace ctr::cli
