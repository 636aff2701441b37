#include "tests/unit/sim/sim_clock.h"

#include <optional>

namespace ctr::sim {

template <typename Handler>
struct SimClock::WaitOf final : Wait {
  explicit WaitOf(Handler h) : handler(std::move(h)) {}
  void Complete() override {
    auto executor = asio::get_associated_executor(handler);
    asio::post(executor, std::move(handler));
  }
  Handler handler;
};

class SimClock::SimAlarm final : public Alarm {
 public:
  explicit SimAlarm(SimClock* clock) : clock_(clock) {}

  awaitable<void> WaitUntil(MonoTime time) override {
    if (std::exchange(rung_, false)) co_return;
    if (time <= clock_->now_) {
      // As a timer that has expired does: others come first. A loop that spins shows, too.
      co_await asio::post(co_await asio::this_coro::executor, use_awaitable);
      rung_ = false;
      co_return;
    }
    auto suspend = [this, time](auto handler) { Suspend(std::move(handler), time); };
    co_await asio::async_initiate<const asio::use_awaitable_t<>&, void()>(suspend, use_awaitable);
    rung_ = false;
  }

  void Ring() override {
    rung_ = true;
    if (wait_) Finish();
  }

  // Ends the wait: its coroutine goes on.
  void Finish() { Take()->Complete(); }

  std::unique_ptr<Wait> Take() {
    if (key_) clock_->queue_.erase(*key_);
    key_.reset();
    clock_->waiting_.erase(position_);
    return std::move(wait_);
  }

 private:
  template <typename Handler>
  void Suspend(Handler handler, MonoTime time) {
    auto slot = asio::get_associated_cancellation_slot(handler);
    wait_ = std::make_unique<WaitOf<Handler>>(std::move(handler));
    position_ = clock_->waiting_.insert(clock_->waiting_.end(), this);
    if (time != MonoTime::max()) key_ = clock_->Add(time, {nullptr, this});
    if (!slot.is_connected()) return;
    // The slot may keep this longer than the alarm lives, and for other waits.
    slot.assign([alive = std::weak_ptr<bool>(alive_), this, wait = wait_.get()](auto) {
      if (!alive.expired() && wait_.get() == wait) Finish();
    });
  }

  SimClock* const clock_;
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>();
  std::unique_ptr<Wait> wait_;
  std::list<SimAlarm*>::iterator position_;
  std::optional<Key> key_;
  bool rung_ = false;
};

std::unique_ptr<Alarm> SimClock::MakeAlarm(asio::any_io_executor) {
  return std::make_unique<SimAlarm>(this);
}

void SimClock::At(MonoTime time, std::function<void()> event) {
  Add(std::max(time, now_), {std::move(event), nullptr});
}

bool SimClock::Step(MonoTime limit) {
  if (queue_.empty() || queue_.begin()->first.first > limit) {
    now_ = std::max(now_, limit);
    return false;
  }
  auto next = queue_.begin();
  now_ = std::max(now_, next->first.first);
  if (next->second.alarm != nullptr) {
    next->second.alarm->Finish();
    return true;
  }
  std::function<void()> event = std::move(next->second.event);
  queue_.erase(next);
  event();
  return true;
}

void SimClock::DropWaits() {
  while (!waiting_.empty()) waiting_.front()->Take().reset();
}

}  // namespace ctr::sim
