#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>

#include "agent/base/time.h"

namespace ctr::policy {

// The expected latency of an instance by peak-EWMA, as Finagle (com.twitter.finagle.loadbalancer.
// PeakEwma) and linkerd (tower::load::PeakEwma) have it: an average that a worse sample replaces at
// once, and that better ones and mere time wear down only slowly.
struct PeakEwma {
  double average_ns = 0;  // as of sampled_at; 0: no sample yet
  MonoTime sampled_at;

  bool has_sample() const { return average_ns > 0; }
};

// The mean lifetime of what was seen: 10 s, Finagle's and linkerd's default.
inline constexpr Duration kPeakEwmaDecay = std::chrono::seconds(10);
// Below it latencies are not told apart: an estimate that has decayed to nothing would make any
// number in flight cost nothing.
inline constexpr Duration kLeastLatency = std::chrono::microseconds(10);
// More than that is no more expensive; it keeps nonsense from lasting.
inline constexpr Duration kMostLatency = std::chrono::hours(1);
// What a failed request counts as, at least, and at most if it did not really take longer.
inline constexpr Duration kLeastFailure = std::chrono::seconds(1);
inline constexpr Duration kMostFailure = std::chrono::minutes(1);

// The weight that the average still has, exp(-dt/tau). A clock read in another thread may be a
// little behind: then no time has passed.
inline double PeakEwmaWeight(Duration since_sample) {
  if (since_sample <= Duration::zero()) return 1;
  return std::exp(-static_cast<double>(since_sample.count()) /
                  static_cast<double>(kPeakEwmaDecay.count()));
}

// The expected latency at `now`, in nanoseconds, of one that has a sample. Without new samples it
// decays to zero, so that what was slow is tried again. (The originals store the decayed value on
// every look, and by that give a sample below it next to no weight; we leave it as sampled.)
inline double EstimateNs(const PeakEwma& ewma, MonoTime now) {
  return std::max(ewma.average_ns * PeakEwmaWeight(now - ewma.sampled_at),
                  static_cast<double>(kLeastLatency.count()));
}

// With one more sample: a latency, request sent to response headers.
inline PeakEwma WithSample(const PeakEwma& before, Duration latency, MonoTime now) {
  const auto sample_ns =
      static_cast<double>(std::clamp<Duration>(latency, kLeastLatency, kMostLatency).count());
  if (!before.has_sample()) return {sample_ns, now};
  const MonoTime sampled_at = std::max(now, before.sampled_at);
  if (sample_ns >= before.average_ns) return {sample_ns, sampled_at};
  const double weight = PeakEwmaWeight(now - before.sampled_at);
  return {before.average_ns * weight + sample_ns * (1 - weight), sampled_at};
}

// With one more request that failed after `elapsed`. However fast it failed it counts as slow, or a
// broken instance would draw all traffic to itself: as a second, and as twice of what is expected
// already. Doubling makes it dearer than its peers after a few, also where they take longer than a
// second; from then on each probe of it is the price of some seven seconds (tau ln 2) without it.
inline PeakEwma WithFailure(const PeakEwma& before, Duration elapsed, MonoTime now) {
  const double expected_ns = before.has_sample() ? EstimateNs(before, now) : 0;
  const double penalty_ns = std::clamp(2 * expected_ns, static_cast<double>(kLeastFailure.count()),
                                       static_cast<double>(kMostFailure.count()));
  return WithSample(before, std::max(elapsed, Duration(static_cast<int64_t>(penalty_ns))), now);
}

// Whether an answer with this status says that the instance failed, not the request. 501 and 505
// are about the request.
inline bool IsFailure(int http_status) {
  return http_status >= 500 && http_status != 501 && http_status != 505;
}

// A PeakEwma that data loops share. Average and time are one word, since a torn pair or a lost peak
// would be the wrong latency for seconds: a float of nanoseconds and a count of 2^20 ns (1.05 ms),
// which wraps after 52 days.
class SharedPeakEwma {
 public:
  // Any thread.
  PeakEwma Load(MonoTime now) const { return Unpack(word_.load(std::memory_order_relaxed), now); }
  void Sample(Duration latency, MonoTime now) { Update(WithSample, latency, now); }
  void SampleFailure(Duration elapsed, MonoTime now) { Update(WithFailure, elapsed, now); }
  // A new start of the instance knows nothing of the last one's.
  void Reset() { word_.store(0, std::memory_order_relaxed); }

 private:
  static constexpr int kTickBits = 20;
  // Samples that seem to be that little ahead come from a thread that read the clock later.
  static constexpr uint32_t kAhead = 1 << 16;

  static uint32_t Ticks(MonoTime time) {
    return static_cast<uint32_t>(static_cast<uint64_t>(time.time_since_epoch().count()) >>
                                 kTickBits);
  }
  static uint64_t Pack(const PeakEwma& ewma, uint32_t ticks) {
    const auto average = static_cast<float>(ewma.average_ns);
    return uint64_t{std::bit_cast<uint32_t>(average)} << 32 | ticks;
  }
  // `sampled_at` in whole ticks before `now`, so that samples within one tick do not all decay it.
  static PeakEwma Unpack(uint64_t word, MonoTime now) {
    uint32_t age = Ticks(now) - static_cast<uint32_t>(word);
    if (age > UINT32_MAX - kAhead) age = 0;
    return {std::bit_cast<float>(static_cast<uint32_t>(word >> 32)),
            now - Duration(int64_t{age} << kTickBits)};
  }

  void Update(PeakEwma (*next)(const PeakEwma&, Duration, MonoTime), Duration latency,
              MonoTime now) {
    const uint32_t ticks = Ticks(now);
    uint64_t seen = word_.load(std::memory_order_relaxed);
    uint64_t word;
    do {
      const bool ahead = seen != 0 && ticks - static_cast<uint32_t>(seen) > UINT32_MAX - kAhead;
      word =
          Pack(next(Unpack(seen, now), latency, now), ahead ? static_cast<uint32_t>(seen) : ticks);
    } while (!word_.compare_exchange_weak(seen, word, std::memory_order_relaxed));
  }

  std::atomic<uint64_t> word_{0};  // 0: no sample yet
};

}  // namespace ctr::policy
