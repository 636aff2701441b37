#pragma once

#include <map>
#include <memory>
#include <utility>

#include "agent/base/clock.h"

namespace ctr {

// Time that stands still until a test moves it. On one loop; alarms refer to the clock, which
// outlives them.
class ManualClock final : public Clock {
 public:
  MonoTime Now() const override { return now_; }
  WallTime Wall() const override {
    return start_ + std::chrono::duration_cast<WallTime::duration>(now_.time_since_epoch());
  }
  std::unique_ptr<Alarm> MakeAlarm(asio::any_io_executor executor) override;

  // Moves time; alarms that are due ring in the order of their times. Run the loop afterwards.
  void Advance(Duration duration) {
    now_ += duration;
    while (!sleepers_.empty() && sleepers_.begin()->first <= now_) {
      auto timer = sleepers_.begin()->second;
      sleepers_.erase(sleepers_.begin());
      timer->cancel();
    }
  }

 private:
  class ManualAlarm;
  using Sleepers = std::multimap<MonoTime, std::shared_ptr<asio::steady_timer>>;

  MonoTime now_ = MonoTime(std::chrono::hours(1));
  const WallTime start_ = WallTime(std::chrono::hours(24 * 365 * 50));
  Sleepers sleepers_;
};

class ManualClock::ManualAlarm final : public Alarm {
 public:
  ManualAlarm(ManualClock* clock, asio::any_io_executor executor)
      : clock_(clock),
        timer_(std::make_shared<asio::steady_timer>(std::move(executor), MonoTime::max())) {}

  awaitable<void> WaitUntil(MonoTime time) override {
    if (!std::exchange(rung_, false) && time > clock_->now_) {
      auto timer = timer_;
      clock_->sleepers_.emplace(time, timer);
      ErrorCode ignored;
      co_await timer->async_wait(asio::redirect_error(use_awaitable, ignored));
      std::erase_if(clock_->sleepers_,
                    [&](const auto& sleeper) { return sleeper.second == timer; });
      rung_ = false;
    }
  }

  void Ring() override {
    rung_ = true;
    timer_->cancel();
  }

 private:
  ManualClock* const clock_;
  const std::shared_ptr<asio::steady_timer> timer_;
  bool rung_ = false;
};

inline std::unique_ptr<Alarm> ManualClock::MakeAlarm(asio::any_io_executor executor) {
  return std::make_unique<ManualAlarm>(this, std::move(executor));
}

}  // namespace ctr
