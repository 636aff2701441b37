#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "agent/base/time.h"

namespace ctr::policy {

// How long the oldest request in flight has waited for its answer, near enough, in one word that
// data loops share. It follows one request at a time: when that is answered, the next that begins.
// So it may not see the oldest, but one that is never answered stays the one it follows, and an
// instance that has stalled is seen by the first request that begins after the stall.
class InFlightWatch {
 public:
  // Any thread, when a request begins. True: it is the one that is followed, and its end (response
  // headers, or whatever ends it) calls End once.
  bool Begin(MonoTime now) {
    int64_t none = kNone;
    if (since_.load(std::memory_order_relaxed) != kNone) return false;
    return since_.compare_exchange_strong(none, std::max(kNone + 1, Ticks(now)),
                                          std::memory_order_relaxed);
  }
  void End() { since_.store(kNone, std::memory_order_relaxed); }

  // Any thread; zero if nothing is followed.
  Duration Age(MonoTime now) const {
    const int64_t since = since_.load(std::memory_order_relaxed);
    if (since == kNone) return Duration::zero();
    return std::max(Duration::zero(), Duration(Ticks(now) - since));
  }

 private:
  static constexpr int64_t kNone = 0;
  static int64_t Ticks(MonoTime time) { return time.time_since_epoch().count(); }

  std::atomic<int64_t> since_{kNone};
};

}  // namespace ctr::policy
