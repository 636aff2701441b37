#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>

#include "agent/base/semaphore.h"

namespace ctr {

// A lock for each key, held by one coroutine at a time; who waits is served first in, first out. On
// one loop.
class KeyedLocks {
 public:
  class Lock {
   public:
    Lock(std::shared_ptr<Semaphore> of_key, Semaphore::Permit permit)
        : of_key_(std::move(of_key)), permit_(std::move(permit)) {}

   private:
    std::shared_ptr<Semaphore> of_key_;
    Semaphore::Permit permit_;
  };

  KeyedLocks(asio::any_io_executor executor, Clock& clock)
      : executor_(std::move(executor)), clock_(clock) {}

  awaitable<Lock> Acquire(std::string key) {
    std::erase_if(locks_, [](const auto& entry) { return entry.second.expired(); });
    std::weak_ptr<Semaphore>& known = locks_[std::move(key)];
    std::shared_ptr<Semaphore> of_key = known.lock();
    if (!of_key) known = of_key = std::make_shared<Semaphore>(executor_, clock_, 1);
    Semaphore::Permit permit = co_await of_key->Acquire();
    co_return Lock(std::move(of_key), std::move(permit));
  }

 private:
  const asio::any_io_executor executor_;
  Clock& clock_;
  std::map<std::string, std::weak_ptr<Semaphore>> locks_;  // those that are held, or were last
};

}  // namespace ctr
