#include "agent/base/clock.h"

#include <utility>

namespace ctr {
namespace {

class SystemAlarm final : public Alarm {
 public:
  explicit SystemAlarm(asio::any_io_executor executor) : timer_(std::move(executor)) {}

  awaitable<void> WaitUntil(MonoTime time) override {
    if (!std::exchange(rung_, false)) {
      timer_.expires_at(time);
      ErrorCode ignored;
      co_await timer_.async_wait(asio::redirect_error(use_awaitable, ignored));
      rung_ = false;
    }
  }

  void Ring() override {
    rung_ = true;
    timer_.cancel();
  }

 private:
  asio::steady_timer timer_;
  bool rung_ = false;
};

}  // namespace

awaitable<void> Clock::SleepUntil(MonoTime time) {
  std::unique_ptr<Alarm> alarm = MakeAlarm(co_await asio::this_coro::executor);
  co_await alarm->WaitUntil(time);
}

MonoTime SystemClock::Now() const { return std::chrono::steady_clock::now(); }

WallTime SystemClock::Wall() const { return std::chrono::system_clock::now(); }

std::unique_ptr<Alarm> SystemClock::MakeAlarm(asio::any_io_executor executor) {
  return std::make_unique<SystemAlarm>(std::move(executor));
}

}  // namespace ctr
