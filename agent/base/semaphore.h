#pragma once

#include <deque>
#include <memory>
#include <utility>

#include "agent/base/clock.h"

namespace ctr {

// Lets a number of coroutines in at once; who waits is served first in, first out. On one loop.
class Semaphore {
 public:
  class Permit {
   public:
    explicit Permit(Semaphore* semaphore) : semaphore_(semaphore) {}
    Permit(Permit&& other) noexcept : semaphore_(std::exchange(other.semaphore_, nullptr)) {}
    Permit& operator=(Permit&&) = delete;
    ~Permit() {
      if (semaphore_ != nullptr) semaphore_->Release();
    }

   private:
    Semaphore* semaphore_;
  };

  Semaphore(asio::any_io_executor executor, Clock& clock, int permits)
      : executor_(std::move(executor)), clock_(clock), free_(permits) {}

  awaitable<Permit> Acquire();

 private:
  struct Waiter {
    std::unique_ptr<Alarm> alarm;
    bool granted = false;
  };

  void Release();

  const asio::any_io_executor executor_;
  Clock& clock_;
  int free_;
  std::deque<std::shared_ptr<Waiter>> waiters_;
};

}  // namespace ctr
