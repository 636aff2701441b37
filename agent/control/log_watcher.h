#pragma once

#include <memory>
#include <string>

#include "agent/base/clock.h"
#include "agent/base/error.h"

namespace ctr {

// Tells who reads instances' output that there is more of it: one inotify descriptor for all of
// them, as the kernel gives a user few, instances' root among them; taken at once, before they are
// used up. Home: the control loop.
class LogWatcher {
 public:
  LogWatcher(asio::any_io_executor executor, Clock& clock);
  ~LogWatcher();

  class Watch;

  // Rings `alarm` at every change of what is in `folder`, and when it is removed, as long as the
  // Watch lives; where the kernel has no room for that, four times a second. The alarm outlives
  // it; the watcher need not.
  std::unique_ptr<Watch> Add(const std::string& folder, Alarm* alarm);

 private:
  struct State;

  const asio::any_io_executor executor_;
  Clock& clock_;
  std::shared_ptr<State> state_;  // null if there is no inotify
};

class LogWatcher::Watch {
 public:
  virtual ~Watch() = default;
};

}  // namespace ctr
