#include "agent/policy/memory_scaler.h"

#include <limits>
#include <vector>

#include <doctest/doctest.h>

namespace ctr::policy::memory_scaler_test {
namespace {

using namespace std::chrono_literals;
using Status = MemoryWish::Status;

const MonoTime kStart = MonoTime(1000s);

MemoryInstance Uses(int index, double part, double pressure = 0) {
  return {.index = index, .used_bytes = part * 256e6, .limit_bytes = 256e6, .pressure = pressure};
}

std::vector<MemoryInstance> All(int count, double part, double pressure = 0) {
  std::vector<MemoryInstance> all;
  for (int i = 0; i < count; ++i) all.push_back(Uses(i, part, pressure));
  return all;
}

MemoryConfig Target(double target) {
  MemoryConfig config;
  config.target = target;
  return config;
}

TEST_CASE("above its target memory asks for more, by the ratio") {
  CHECK(MemoryScaler(Target(0.8)).Decide(All(4, 0.9), kStart).wish == 5);
  CHECK(MemoryScaler(Target(0.5)).Decide(All(3, 0.9), kStart).wish == 6);
  CHECK(MemoryScaler(Target(0.5)).Decide({{Uses(0, 0.9), Uses(1, 0.3)}}, kStart).wish == 3);
}

TEST_CASE("at or below its target memory has no wish: an idle baseline keeps nothing awake") {
  MemoryScaler scaler(Target(0.8));
  const MemoryWish at = scaler.Decide(All(4, 0.8), kStart);
  CHECK(at.status == Status::kBelow);
  CHECK_FALSE(at.wish);
  CHECK(at.utilization == doctest::Approx(0.8));
  CHECK_FALSE(scaler.Decide(All(4, 0.1), kStart + 1s).wish);
}

TEST_CASE("without a ready instance that has a limit there is nothing to go by") {
  MemoryScaler scaler(Target(0.8));
  CHECK(scaler.Decide({}, kStart).status == Status::kNothing);
  MemoryInstance unlimited = Uses(0, 0.9);
  unlimited.limit_bytes = 0;
  CHECK(scaler.Decide({{unlimited}}, kStart).status == Status::kNothing);
  MemoryInstance starting = Uses(0, 0.99);
  starting.ready = false;
  CHECK(scaler.Decide({{starting}}, kStart).status == Status::kNothing);
  MemoryInstance broken = Uses(0, 0.9);
  broken.used_bytes = std::numeric_limits<double>::quiet_NaN();
  CHECK(scaler.Decide({{broken}}, kStart).status == Status::kNothing);
  broken.used_bytes = -1;
  CHECK(scaler.Decide({{broken}}, kStart).status == Status::kNothing);
}

TEST_CASE("it waits until what it asked for is ready and has had time to show") {
  MemoryScaler scaler(Target(0.8));
  CHECK(scaler.Decide(All(4, 0.9), kStart).wish == 5);
  CHECK(scaler.Decide(All(4, 0.94), kStart + 30s).wish == 5);
  CHECK(scaler.Decide(All(5, 0.805), kStart + 60s).wish == 5);
  CHECK(scaler.Decide(All(5, 0.805), kStart + 119s).wish == 5);
  CHECK(scaler.Decide(All(5, 0.805), kStart + 120s).wish == 6);
}

TEST_CASE("where more instances are no relief it stops asking, until it was below the target") {
  MemoryScaler scaler(Target(0.8));
  CHECK(scaler.Decide(All(4, 0.9), kStart).wish == 5);
  CHECK(scaler.Decide(All(5, 0.9), kStart + 10s).wish == 5);
  const MemoryWish no_help = scaler.Decide(All(5, 0.9), kStart + 70s);
  CHECK(no_help.status == Status::kNoHelp);
  CHECK_FALSE(no_help.wish);
  CHECK_FALSE(scaler.Decide(All(4, 0.92), kStart + 1h).wish);
  CHECK_FALSE(scaler.Decide(All(4, 0.7), kStart + 2h).wish);
  CHECK(scaler.Decide(All(4, 0.9), kStart + 3h).wish == 5);
}

TEST_CASE("a wish outlives its need by five minutes, so that it does not go to and fro") {
  MemoryScaler scaler(Target(0.8));
  CHECK(scaler.Decide(All(4, 0.9), kStart).wish == 5);
  const MemoryWish held = scaler.Decide(All(5, 0.72), kStart + 299s);
  CHECK(held.status == Status::kHeld);
  CHECK(held.wish == 5);
  CHECK_FALSE(scaler.Decide(All(5, 0.72), kStart + 300s).wish);
}

TEST_CASE("pressure adds one, and another only if that took it off") {
  MemoryScaler scaler(Target(0.8));
  CHECK_FALSE(scaler.Decide(All(3, 0.5, 10), kStart).wish);
  CHECK(scaler.Decide(All(3, 0.5, 40), kStart + 1s).wish == 4);
  CHECK(scaler.Decide(All(4, 0.5, 40), kStart + 2s).wish == 4);
  SUBCASE("it fell by half") { CHECK(scaler.Decide(All(4, 0.5, 20), kStart + 62s).wish == 5); }
  SUBCASE("it did not") {
    CHECK(scaler.Decide(All(4, 0.5, 40), kStart + 62s).status == Status::kNoHelp);
  }
  SUBCASE("it is on top of what the ratio asks for") {
    MemoryScaler other(Target(0.8));
    CHECK(other.Decide(All(4, 0.9, 40), kStart).wish == 6);
  }
}

TEST_CASE("pressure that is no number is none") {
  MemoryScaler scaler(Target(0.8));
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(scaler.Decide(All(3, 0.5, nan), kStart).status == Status::kBelow);
}

TEST_CASE("an instance close to its limit is to be replaced, the fullest first") {
  MemoryScaler scaler(Target(0.8));
  CHECK_FALSE(scaler.Decide(All(3, 0.94), kStart).replace);
  const MemoryWish wish =
      scaler.Decide({{Uses(0, 0.5), Uses(1, 0.95), Uses(2, 0.97)}}, kStart + 1s);
  REQUIRE(wish.replace);
  CHECK(wish.replace->index == 2);
  CHECK_FALSE(wish.replace->limit_in);
}

// An instance's memory, second by second; whether it is to be replaced in the end.
template <typename Part>
std::optional<MemoryReplacement> After(int seconds, Part part) {
  MemoryScaler scaler(Target(0.99));
  std::optional<MemoryReplacement> replace;
  for (int i = 0; i <= seconds; ++i) {
    replace = scaler.Decide({{Uses(7, part(i))}}, kStart + i * 1s).replace;
  }
  return replace;
}

TEST_CASE("an instance whose trend reaches its limit within the horizon is to be replaced") {
  const auto leak = [](int second) { return 0.6 + 0.0025 * second; };  // full after 160 s
  CHECK_FALSE(After(30, leak));                                        // not seen for long enough
  const std::optional<MemoryReplacement> replace = After(60, leak);
  REQUIRE(replace);
  CHECK(replace->index == 7);
  CHECK(std::chrono::duration<double>(*replace->limit_in).count() == doctest::Approx(100));
}

TEST_CASE("a trend that is slow, has ended or is that of a start replaces nothing") {
  CHECK_FALSE(After(120, [](int second) { return 0.7 + 0.001 * second; }));  // full in 180 s
  CHECK_FALSE(After(60, [](int second) { return std::min(0.85, 0.5 + 0.012 * second); }));
  CHECK_FALSE(After(60, [](int second) { return 0.05 + 0.009 * second; }));  // 0.59
  CHECK_FALSE(After(120, [](int second) { return 0.9 - 0.002 * second; }));
  CHECK_FALSE(After(120, [](int second) { return second % 2 ? 0.85 : 0.65; }));
}

TEST_CASE("what an earlier generation used says nothing of this one") {
  MemoryScaler scaler(Target(0.99));
  MemoryWish wish;
  for (int i = 0; i <= 60; ++i) {
    MemoryInstance instance = Uses(0, 0.6 + 0.005 * i);
    instance.generation = i < 59 ? 1 : 2;
    wish = scaler.Decide({{instance}}, kStart + i * 1s);
  }
  CHECK_FALSE(wish.replace);
}

TEST_CASE("a second look at the same moment changes nothing") {
  MemoryTrend trend;
  for (int i = 0; i <= 60; ++i) {
    for (int times = 0; times < 3; ++times) trend.Record(kStart + i * 1s, 0.5 + 0.005 * i, 60s);
  }
  REQUIRE(trend.LimitIn(60s));
  CHECK(std::chrono::duration<double>(*trend.LimitIn(60s)).count() == doctest::Approx(40));
}

}  // namespace
}  // namespace ctr::policy::memory_scaler_test
