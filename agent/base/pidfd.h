#pragma once

#include <memory>

#include "agent/base/asio.h"
#include "agent/base/error.h"
#include "agent/base/fd.h"

namespace ctr {

// A process held by descriptor: its pid, once reused, never stands for another. Immutable; any
// thread.
class Pidfd {
 public:
  // NOT_FOUND if there is no such process. Whether it is the one that was meant has to be checked
  // after this call.
  static StatusOr<Pidfd> Open(int pid);

  int pid() const { return pid_; }
  // To hand on.
  int descriptor() const { return fd_.get(); }
  bool HasExited() const;

  // NOT_FOUND once it has exited, also while nobody has reaped it.
  Status Signal(int signal) const;

  // Returns when it has exited, on the caller's executor. The Pidfd may be destroyed meanwhile.
  awaitable<void> WaitExit() const;

 private:
  Pidfd(int pid, UniqueFd fd) : pid_(pid), fd_(std::move(fd)) {}

  int pid_;
  UniqueFd fd_;
};

}  // namespace ctr
