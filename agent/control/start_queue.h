#pragma once

#include <deque>
#include <memory>
#include <utility>

#include "agent/base/clock.h"

namespace ctr {

// Bounds how many containers are made at once; who waits is served first in, first out. On the control loop. (Throughput
// of whole lifecycles peaks at about four at a time; at eight a cold start takes twice as long.)
class StartQueue {
 public:
  class Permit {
   public:
    explicit Permit(StartQueue* queue) : queue_(queue) {}
    Permit(Permit&& other) noexcept : queue_(std::exchange(other.queue_, nullptr)) {}
    Permit& operator=(Permit&&) = delete;
    ~Permit() {
      if (queue_ != nullptr) queue_->Release();
    }

   private:
    StartQueue* queue_;
  };

  StartQueue(asio::any_io_executor executor, Clock& clock, int permits)
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
