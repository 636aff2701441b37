#pragma once

#include <array>
#include <atomic>

#include "agent/base/histogram.h"

namespace ctr {

// What the data loops count of a class's traffic. Each loop writes a part of its own, without a
// lock or a shared cache line; any thread reads the sums, which may be a moment old.
class Traffic {
 public:
  // One request that was answered, by the instance or by the ingress itself.
  struct Request {
    int status = 0;
    Duration took{0};
    uint64_t bytes_in = 0;   // from the client
    uint64_t bytes_out = 0;  // to the client
  };
  // On data loop number `loop`.
  void Add(size_t loop, const Request& request) {
    Part& part = parts_[loop % kParts];
    Bump(part.answers[static_cast<size_t>(request.status / 100 - 1) % kClasses], 1);
    Bump(part.buckets[BucketOf(request.took)], 1);
    Bump(part.sum_nanoseconds, static_cast<uint64_t>(request.took.count()));
    AddBytes(part, request.bytes_in, request.bytes_out);
  }
  // A connection that ended.
  void AddConnection(size_t loop, uint64_t bytes_in, uint64_t bytes_out) {
    Part& part = parts_[loop % kParts];
    Bump(part.connections, 1);
    AddBytes(part, bytes_in, bytes_out);
  }

  static constexpr size_t kClasses = 5;  // of status: 1xx to 5xx
  struct Sums {
    std::array<uint64_t, kClasses> answers{};
    DurationHistogram took;
    uint64_t connections = 0;
    uint64_t bytes_in = 0;
    uint64_t bytes_out = 0;
  };
  Sums Read() const {
    Sums sums;
    for (const Part& part : parts_) {
      for (size_t i = 0; i < kClasses; ++i) sums.answers[i] += part.answers[i];
      for (size_t i = 0; i < part.buckets.size(); ++i) sums.took.buckets[i] += part.buckets[i];
      sums.took.sum_seconds += static_cast<double>(part.sum_nanoseconds) / 1e9;
      sums.connections += part.connections;
      sums.bytes_in += part.bytes_in;
      sums.bytes_out += part.bytes_out;
    }
    return sums;
  }

 private:
  static constexpr size_t kParts = 8;  // loops beyond share
  using Count = std::atomic<uint64_t>;
  struct alignas(64) Part {
    std::array<Count, kClasses> answers{};
    std::array<Count, kDurationBounds.size() + 1> buckets{};
    Count sum_nanoseconds{0};
    Count connections{0};
    Count bytes_in{0};
    Count bytes_out{0};
  };
  static void Bump(Count& count, uint64_t by) { count.fetch_add(by, std::memory_order_relaxed); }
  static void AddBytes(Part& part, uint64_t in, uint64_t out) {
    Bump(part.bytes_in, in);
    Bump(part.bytes_out, out);
  }

  std::array<Part, kParts> parts_;
};

}  // namespace ctr
