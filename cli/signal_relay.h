#pragma once

#include <signal.h>

#include <functional>
#include <initializer_list>
#include <thread>

#include "agent/base/fd.h"

namespace ctr::cli {

// While it lives, `signals` end nothing: each is given to `handle`, on a thread of its own. Made
// before any other thread is, which would take them. A SIGHUP that nohup ignores stays ignored.
class SignalRelay {
 public:
  SignalRelay(std::initializer_list<int> signals, std::function<void(int signal)> handle);
  ~SignalRelay();  // returns once `handle` is not called any more

 private:
  void Run();

  const sigset_t set_;
  const std::function<void(int)> handle_;
  UniqueFd signals_;
  UniqueFd stop_;
  std::thread thread_;
};

}  // namespace ctr::cli
