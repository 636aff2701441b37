#pragma once

#include <functional>
#include <memory>

#include "agent/control/instance.h"

namespace ctr {

// Waits, as long as it lives, until something holds of an instance or the instance is forgotten,
// and then rings an alarm: for who waits for other things at the same time. Home: the control loop.
class StateWatch {
 public:
  // `then` is called with the instance as it was at that moment, before anything else can happen to
  // it. The alarm outlives the watch.
  StateWatch(asio::any_io_executor executor, std::shared_ptr<Instance> instance,
             std::function<bool(const Instance&)> reached,
             std::function<void(const Instance&)> then, Alarm* alarm);
  StateWatch(const StateWatch&) = delete;
  ~StateWatch();

  bool done() const { return state_->done; }

 private:
  struct State {
    bool done = false;
    Alarm* alarm = nullptr;  // null once the watch is gone
    std::function<void(const Instance&)> then;
    asio::cancellation_signal cancel;
  };
  static awaitable<void> Run(std::shared_ptr<State> state, std::shared_ptr<Instance> instance,
                             std::function<bool(const Instance&)> reached);

  const std::shared_ptr<State> state_;
};

}  // namespace ctr
