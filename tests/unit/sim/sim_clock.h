#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <utility>

#include "agent/base/clock.h"

namespace ctr::sim {

// Virtual time that jumps from one event to the next, for the world (events, which happen whatever
// becomes of the agent) and for the agent (alarms, which die with it). No timers of the system: a
// loop that only waits here never enters the kernel. On one thread.
class SimClock final : public Clock {
 public:
  MonoTime Now() const override { return now_; }
  WallTime Wall() const override {
    return start_ + std::chrono::duration_cast<WallTime::duration>(now_.time_since_epoch());
  }
  std::unique_ptr<Alarm> MakeAlarm(asio::any_io_executor executor) override;

  // Calls `event` at `time`.
  void At(MonoTime time, std::function<void()> event);

  // Moves to the next event or due alarm up to `limit` and performs it; false if there is none:
  // time is `limit` then. Run the loop afterwards.
  bool Step(MonoTime limit);

  // Destroys every coroutine that waits for an alarm (through its executor, as Asio does).
  void DropWaits();

 private:
  class SimAlarm;
  // A suspended coroutine.
  struct Wait {
    virtual ~Wait() = default;
    virtual void Complete() = 0;
  };
  template <typename Handler>
  struct WaitOf;
  struct Item {
    std::function<void()> event;
    SimAlarm* alarm = nullptr;
  };
  using Key = std::pair<MonoTime, uint64_t>;  // who came first goes first

  Key Add(MonoTime time, Item item) {
    Key key(time, ++count_);
    queue_.emplace(key, std::move(item));
    return key;
  }

  MonoTime now_ = MonoTime(std::chrono::hours(1));
  const WallTime start_ = WallTime(std::chrono::hours(24 * 365 * 50));
  uint64_t count_ = 0;
  std::map<Key, Item> queue_;
  std::list<SimAlarm*> waiting_;
};

}  // namespace ctr::sim
