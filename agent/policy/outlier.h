#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "agent/base/time.h"

namespace ctr::policy {

// Outlier ejection: an instance whose requests fail one after the other gets none for a while.
// After Envoy's outlier detection (consecutive gateway failures, local and external errors in one),
// whose defaults these are, except that up to half of a set may be ejected where Envoy says 10 %,
// and that one failure ejects again who is on trial.
struct OutlierConfig {
  Duration base = std::chrono::seconds(30);    // base_ejection_time
  Duration most = std::chrono::minutes(5);     // max_ejection_time
  Duration forget = std::chrono::seconds(10);  // interval: in service that long undoes one ejection
};

// consecutive_gateway_failure.
inline constexpr uint32_t kConsecutiveFailures = 5;

// Whether an answer from the instance with this status is a failure for this purpose, as a refused
// or cut connection and a timeout are. A 500 is not: one client's bad request, sent again and
// again, must not take out one instance after the other.
inline bool IsGatewayFailure(int http_status) { return http_status >= 502 && http_status <= 504; }

// Counts an instance's failures in a row, for data loops together. Two words, no lock.
class FailureStreak {
 public:
  // Any thread, when a request has ended. True: the instance is to be ejected if it may be
  // (DecideEjection on control); again only after as many more.
  bool Note(bool failed) {
    if (failed) {
      const uint32_t limit = limit_.load(std::memory_order_relaxed);
      const uint32_t count = failures_.fetch_add(1, std::memory_order_relaxed) + 1;
      return count % limit == 0;
    }
    // The common case writes nothing.
    if (failures_.load(std::memory_order_relaxed) != 0) {
      failures_.store(0, std::memory_order_relaxed);
    }
    if (limit_.load(std::memory_order_relaxed) != kConsecutiveFailures) {
      limit_.store(kConsecutiveFailures, std::memory_order_relaxed);
    }
    return false;
  }

  // When it has been ejected: after that it is on trial, one failure is enough until something
  // succeeds.
  void BeginTrial() {
    failures_.store(0, std::memory_order_relaxed);
    limit_.store(1, std::memory_order_relaxed);
  }
  // A new start of the instance begins anew.
  void Reset() {
    failures_.store(0, std::memory_order_relaxed);
    limit_.store(kConsecutiveFailures, std::memory_order_relaxed);
  }

 private:
  std::atomic<uint32_t> failures_{0};
  std::atomic<uint32_t> limit_{kConsecutiveFailures};
};

// What is known of one start's ejections. A value; control decides, data loops may be shown
// `until`.
struct Ejection {
  int count = 0;   // ejections that have not been forgotten
  MonoTime until;  // of the newest; count 0: none
};

bool IsEjected(const Ejection& ejection, MonoTime now);

// The ejections that still count at `now`: one less for each `forget` that it was in service.
int EjectionsLeft(const Ejection& ejection, MonoTime now, const OutlierConfig& config = {});

// The healthy instances that are routed among, and how many of them are ejected now.
struct OutlierSet {
  size_t size = 0;
  size_t ejected = 0;
};

// The ejection of one that failed too often: base times the ejections in a row, at most `most`.
// Nothing if it is ejected already, or if more than half of the set would be: then something else
// than the instance is to blame, and the rest could not take the load.
std::optional<Ejection> DecideEjection(const Ejection& before, const OutlierSet& set, MonoTime now,
                                       const OutlierConfig& config = {});

}  // namespace ctr::policy
