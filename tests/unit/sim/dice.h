#pragma once

#include <cstdint>

#include "agent/base/time.h"

namespace ctr::sim {

// Chance, the same for the same seed on every machine (SplitMix64).
class Dice {
 public:
  explicit Dice(uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15 + 1) {}

  uint64_t Next() {
    uint64_t z = (state_ += 0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
  }
  // 0 … n-1.
  int Below(int n) { return static_cast<int>(Next() % static_cast<uint64_t>(n)); }
  bool Chance(double p) { return static_cast<double>(Next() >> 11) * 0x1.0p-53 < p; }
  // Up to and without `end`, in whole microseconds.
  Duration Within(Duration begin, Duration end) {
    auto span = std::chrono::duration_cast<std::chrono::microseconds>(end - begin).count();
    if (span <= 0) return begin;
    return begin + std::chrono::microseconds(Next() % static_cast<uint64_t>(span));
  }

 private:
  uint64_t state_;
};

// How likely each misfortune is; all zero while the world is calm.
struct Faults {
  double slow = 0;         // a call takes seconds
  double refused = 0;      // a call fails and does nothing
  double lost_answer = 0;  // a call fails for the caller, and takes effect, before or after
  double exit_lost = 0;    // a wait for an exit fails while an outage begins
  double commit = 0;       // a commit fails
  double behind = 0;       // what is written behind does not get to the disk, this time
  double process = 0;      // a process misbehaves: never listens, ends by itself, is OOM-killed
  double stubborn = 0;     // a process outlives SIGKILL for a while
};

}  // namespace ctr::sim
