#pragma once

#include <memory>
#include <set>
#include <utility>

#include "agent/base/clock.h"

namespace ctr {

// Lets coroutines through while it is open, and holds those that come while it is closed. On one
// loop.
class Gate {
 public:
  Gate(asio::any_io_executor executor, Clock& clock)
      : executor_(std::move(executor)), clock_(clock) {}
  Gate(const Gate&) = delete;

  void Close() { open_ = false; }
  void Open() {
    open_ = true;
    for (Alarm* held : held_) held->Ring();
  }

  awaitable<void> Pass() {
    if (open_) co_return;
    const std::unique_ptr<Alarm> alarm = clock_.MakeAlarm(executor_);
    struct Held {
      std::set<Alarm*>& all;
      Alarm* const alarm;
      ~Held() { all.erase(alarm); }
    };
    held_.insert(alarm.get());
    const Held held{held_, alarm.get()};
    while (!open_) co_await alarm->WaitUntil(MonoTime::max());
  }

 private:
  const asio::any_io_executor executor_;
  Clock& clock_;
  bool open_ = true;
  std::set<Alarm*> held_;
};

}  // namespace ctr
