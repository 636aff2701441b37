#pragma once

#include <memory>
#include <string>

#include "agent/base/clock.h"
#include "agent/base/error.h"

namespace ctr {

// Tells who reads instances' output that there is more of it: one inotify descriptor for all of
// them, as the kernel gives a user few. Home: the control loop.
class LogWatcher {
 public:
  explicit LogWatcher(asio::any_io_executor executor);
  ~LogWatcher();

  class Watch;

  // Rings `alarm` at every change of what is in `folder`, and when it is removed, as long as the
  // Watch lives. The alarm outlives it; the watcher need not. An error names the limit that was
  // reached.
  StatusOr<std::unique_ptr<Watch>> Add(const std::string& folder, Alarm* alarm);

 private:
  struct State;

  const asio::any_io_executor executor_;
  std::shared_ptr<State> state_;  // null before the first Add
};

class LogWatcher::Watch {
 public:
  ~Watch();

 private:
  friend class LogWatcher;
  Watch(std::shared_ptr<State> state, int number, Alarm* alarm);

  const std::shared_ptr<State> state_;
  const int number_;
  Alarm* const alarm_;
};

}  // namespace ctr
