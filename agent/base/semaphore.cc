#include "agent/base/semaphore.h"

namespace ctr {

awaitable<Semaphore::Permit> Semaphore::Acquire() {
  if (free_ > 0) {
    --free_;
    co_return Permit(this);
  }
  auto waiter = std::make_shared<Waiter>();
  waiter->alarm = clock_.MakeAlarm(executor_);
  waiters_.push_back(waiter);
  while (!waiter->granted) co_await waiter->alarm->WaitUntil(MonoTime::max());
  co_return Permit(this);
}

void Semaphore::Release() {
  if (waiters_.empty()) {
    ++free_;
    return;
  }
  std::shared_ptr<Waiter> next = waiters_.front();
  waiters_.pop_front();
  next->granted = true;
  next->alarm->Ring();
}

}  // namespace ctr
