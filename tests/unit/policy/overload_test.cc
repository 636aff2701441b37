#include "agent/policy/overload.h"

#include <cmath>
#include <limits>

#include <doctest/doctest.h>

namespace ctr::policy {
namespace {

using namespace std::chrono_literals;

Overload After(Overload state, const OverloadSample& sample, int times,
               const OverloadLimits& limits = {}) {
  for (int i = 0; i < times; ++i) state = NextOverload(state, sample, limits);
  return state;
}

OverloadSample Cpu(double cpu) { return {.cpu = cpu, .memory = 0.2}; }

TEST_CASE("three samples in a row above max_cpu make it overloaded, two do not") {
  const Overload two = After({}, Cpu(0.95), 2);
  CHECK_FALSE(two.overloaded);
  const Overload three = NextOverload(two, Cpu(0.95));
  CHECK(three.overloaded);
  CHECK(three.cause == OverloadCause::kCpu);
}

TEST_CASE("a peak that one calmer sample interrupts does not count") {
  Overload state = After({}, Cpu(0.95), 2);
  state = NextOverload(state, Cpu(0.9));  // at the limit is not above it
  CHECK_FALSE(After(state, Cpu(0.95), 2).overloaded);
}

TEST_CASE("it stays overloaded until three samples in a row are below 90 % of the limit") {
  const Overload overloaded = After({}, Cpu(0.95), 3);
  CHECK(After(overloaded, Cpu(0.85), 1000).overloaded);  // between 0.81 and 0.9
  CHECK(After(overloaded, Cpu(0.8), 2).overloaded);
  CHECK_FALSE(After(overloaded, Cpu(0.8), 3).overloaded);
  Overload state = After(overloaded, Cpu(0.8), 2);
  state = NextOverload(state, Cpu(0.82));
  CHECK(After(state, Cpu(0.8), 2).overloaded);
}

TEST_CASE("a value that swings about the limit changes the flag once") {
  Overload state;
  int changes = 0;
  for (int i = 0; i < 1000; ++i) {
    const Overload next = NextOverload(state, Cpu(i % 4 == 3 ? 0.85 : 0.95));
    changes += next.overloaded != state.overloaded;
    state = next;
  }
  CHECK(changes == 1);
}

TEST_CASE("each signal alone makes it overloaded, and is named") {
  const auto cause = [](const OverloadSample& sample) { return After({}, sample, 3).cause; };
  CHECK(cause({.cpu = 0.91}) == OverloadCause::kCpu);
  CHECK(cause({.memory = 0.96}) == OverloadCause::kMemory);
  CHECK(cause({.cpu_pressure = 0.51}) == OverloadCause::kCpuPressure);
  CHECK(cause({.memory_pressure = 0.11}) == OverloadCause::kMemoryPressure);
  CHECK(cause({.in_flight = 1}) == OverloadCause::kInFlight);
  CHECK(cause({.cpu = 0.9,
               .memory = 0.95,
               .cpu_pressure = 0.5,
               .memory_pressure = 0.1,
               .in_flight = 0.98}) == OverloadCause::kNone);
}

TEST_CASE("signals that take turns above their limits are one overload") {
  Overload state = NextOverload({}, {.cpu = 0.95, .memory = 0.5});
  state = NextOverload(state, {.cpu = 0.5, .memory = 0.97});
  state = NextOverload(state, {.cpu = 0.95, .memory = 0.5});
  CHECK(state.overloaded);
}

TEST_CASE("while overloaded the newest cause is told, and all signals have to calm down") {
  Overload state = After({}, {.cpu = 0.95, .memory = 0.2}, 3);
  state = After(state, {.cpu = 0.1, .memory = 0.97}, 5);
  CHECK(state.overloaded);
  CHECK(state.cause == OverloadCause::kMemory);
  CHECK(After(state, {.cpu = 0.1, .memory = 0.9}, 5).overloaded);
  CHECK_FALSE(After(state, {.cpu = 0.1, .memory = 0.8}, 3).overloaded);
}

TEST_CASE("samples that know nothing change nothing") {
  const Overload counting = After({}, Cpu(0.95), 2);
  const Overload later = After(counting, {}, 100);
  CHECK_FALSE(later.overloaded);
  CHECK(NextOverload(later, Cpu(0.95)).overloaded);
  CHECK(After(After({}, Cpu(0.95), 3), {}, 100).overloaded);
}

TEST_CASE("a metric that is lost does not end the overload that it began") {
  const Overload overloaded = After({}, Cpu(0.95), 3);
  CHECK(After(overloaded, {.memory = 0.2}, 100).overloaded);
  CHECK_FALSE(After(overloaded, {.cpu = 0.2}, 3).overloaded);
}

TEST_CASE("nonsense is not known") {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  CHECK_FALSE(After({}, {.cpu = kNan, .memory = INFINITY}, 10).overloaded);
  CHECK(After(After({}, Cpu(0.95), 3), {.cpu = kNan, .memory = 0.1}, 10).overloaded);
  CHECK(After({}, {.cpu = 1e300}, 3).overloaded);
  CHECK(NextOverload({}, Cpu(0.95), {.samples = -3}).overloaded);
}

TEST_CASE("CPU is a share of the limit, or of the host without one") {
  CHECK(*CpuShare(250ms, 1s, 0.5, 8) == doctest::Approx(0.5));
  CHECK(*CpuShare(4s, 1s, 0, 8) == doctest::Approx(0.5));
  CHECK(*CpuShare(4s, 1s, 16, 8) == doctest::Approx(0.5));  // there is no more than the host
  CHECK_FALSE(CpuShare(1s, 0s, 1, 8));
  CHECK_FALSE(CpuShare(1s, -1s, 1, 8));
  CHECK_FALSE(CpuShare(-1s, 1s, 1, 8));  // the counter began anew
  CHECK_FALSE(CpuShare(1s, 1s, 1, 0));
}

TEST_CASE("memory is a share of the limit, or of the host without one") {
  CHECK(*MemoryShare(128, 256, 1024) == doctest::Approx(0.5));
  CHECK(*MemoryShare(128, 0, 1024) == doctest::Approx(0.125));
  CHECK(*MemoryShare(512, 1ull << 60, 1024) == doctest::Approx(0.5));
  CHECK(*MemoryShare(128, 256, 0) == doctest::Approx(0.5));
  CHECK_FALSE(MemoryShare(128, 0, 0));
}

TEST_CASE("without max_concurrency any number in flight is no overload") {
  CHECK_FALSE(InFlightShare(1'000'000, 0));
  CHECK(*InFlightShare(5, 10) == doctest::Approx(0.5));
  CHECK(After({}, {.in_flight = InFlightShare(10, 10)}, 3).overloaded);
  CHECK_FALSE(After({}, {.in_flight = InFlightShare(9, 10)}, 3).overloaded);
}

}  // namespace
}  // namespace ctr::policy
