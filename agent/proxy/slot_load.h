#pragma once

#include <atomic>

#include "agent/base/time.h"
#include "agent/policy/in_flight_watch.h"
#include "agent/policy/outlier.h"
#include "agent/policy/peak_ewma.h"

namespace ctr {

// What the choice among instances goes by, of one start of one of them, beside the gate. The data
// loops sample what they see; control says whether it is overloaded and passes its readiness check.
// Any thread, without a lock.
class SlotLoad {
 public:
  policy::SharedPeakEwma latency;  // from a request sent to its response's headers
  policy::InFlightWatch waiting;
  policy::FailureStreak failures;

  void set_overloaded(bool overloaded) { overloaded_.store(overloaded, std::memory_order_relaxed); }
  bool overloaded() const { return overloaded_.load(std::memory_order_relaxed); }
  void set_passing(bool passing) { passing_.store(passing, std::memory_order_relaxed); }
  bool passing() const { return passing_.load(std::memory_order_relaxed); }

  // Two loops that eject it at the same moment write the same.
  policy::Ejection ejection() const {
    return {ejections_.load(std::memory_order_relaxed),
            MonoTime(Duration(ejected_until_.load(std::memory_order_relaxed)))};
  }
  void Eject(const policy::Ejection& ejection) {
    ejected_until_.store(ejection.until.time_since_epoch().count(), std::memory_order_relaxed);
    ejections_.store(ejection.count, std::memory_order_relaxed);
    failures.BeginTrial();
  }

  // A new start knows nothing of the last one's. By control, while the gate is closed.
  void Reset() {
    latency.Reset();
    waiting.End();
    failures.Reset();
    ejections_.store(0, std::memory_order_relaxed);
    set_overloaded(false);
    set_passing(true);
  }

 private:
  std::atomic<int> ejections_{0};
  std::atomic<int64_t> ejected_until_{0};
  std::atomic<bool> overloaded_{false};
  std::atomic<bool> passing_{true};
};

}  // namespace ctr
