#include "agent/policy/traffic_scaler.h"

#include <limits>

#include <doctest/doctest.h>

namespace ctr::policy::traffic_scaler_test {
namespace {

using namespace std::chrono_literals;

const MonoTime kStart = MonoTime(1000s);

// The decider of Knative's tests (autoscaler_test.go), whose numbers these cases have.
TrafficConfig KnativeTest(double target) {
  TrafficConfig config;
  config.target = target;
  config.target_utilization = 1;
  config.max_scale_up_rate = 10;
  config.max_scale_down_rate = 10;
  return config;
}

TrafficConfig Delayed() {
  TrafficConfig config = KnativeTest(10);
  config.panic_threshold = 10000;
  config.scale_down_delay = 5min;
  return config;
}

TEST_CASE("without load none is wanted, with load as many as it needs") {
  struct Case {
    double target, stable, panic;
    int ready, wish;
  };
  for (const Case& c : {Case{10, 0, 0, 1, 0}, Case{181, 21, 26, 1, 1}, Case{10, 50, 49, 1, 5},
                        Case{10, 50, 50, 1, 5}, Case{10, 50, 50, 5, 5}, Case{10, 50, 100, 1, 10}}) {
    TrafficScaler scaler(KnativeTest(c.target), 1, kStart);
    CHECK(scaler.Decide(c.stable, c.panic, c.ready, kStart).wish == c.wish);
  }
}

TEST_CASE("the stable average alone counts outside of panic") {
  TrafficScaler scaler(KnativeTest(10), 1, kStart);
  CHECK(scaler.Decide(50, 10, 1, kStart).wish == 5);
  CHECK(scaler.Decide(100, 10, 1, kStart).wish == 10);
}

TEST_CASE("a decrease of both averages is followed at once outside of panic") {
  TrafficScaler scaler(KnativeTest(10), 1, kStart);
  CHECK(scaler.Decide(100, 100, 8, kStart).wish == 10);
  CHECK(scaler.Decide(50, 50, 8, kStart).wish == 5);
}

TEST_CASE("without traffic the last goes, too") {
  TrafficScaler scaler(KnativeTest(10), 1, kStart);
  CHECK(scaler.Decide(1, 0, 1, kStart).wish == 1);
  CHECK(scaler.Decide(0, 0, 1, kStart).wish == 0);
}

TEST_CASE("in panic the greater of the two averages counts") {
  // Five ready, over the threshold five seconds ago.
  for (const auto& [stable, wish] : {std::pair{50.0, 50}, std::pair{20.0, 30}}) {
    TrafficScaler scaler(KnativeTest(1), 5, kStart - 5s);
    const TrafficWish decided = scaler.Decide(stable, 30, 5, kStart);
    CHECK(decided.wish == wish);
    CHECK(decided.panicking.has_value());
  }
}

TEST_CASE("a rate too small to add or drop a whole instance does so all the same") {
  TrafficConfig config = KnativeTest(1);
  config.max_scale_up_rate = 1.1;
  CHECK(TrafficScaler(config, 1, kStart).Decide(3, 3.1, 2, kStart).wish == 3);
  config = KnativeTest(10);
  config.max_scale_down_rate = 1.1;
  const TrafficWish decided = TrafficScaler(config, 1, kStart).Decide(1, 1, 100, kStart);
  CHECK(decided.wish == 90);
  CHECK(decided.rate_limited);
}

TEST_CASE("one that nobody can reach goes down at any rate") {
  TrafficConfig config = KnativeTest(10);
  config.max_scale_down_rate = 1.1;
  config.reachable = false;
  CHECK(TrafficScaler(config, 1, kStart).Decide(1, 1, 100, kStart).wish == 1);
}

TEST_CASE("up at most tenfold at a time, down at most to a tenth") {
  TrafficScaler up(KnativeTest(10), 1, kStart);
  CHECK(up.Decide(1000, 1001, 1, kStart).wish == 10);
  CHECK(up.Decide(1000, 1001, 10, kStart).wish == 100);
  TrafficScaler down(KnativeTest(10), 1, kStart);
  CHECK(down.Decide(1, 1, 100, kStart).wish == 10);
  CHECK(down.Decide(1, 1, 10, kStart).wish == 1);
}

TEST_CASE("none ready counts as one") {
  TrafficScaler scaler(KnativeTest(10), 1, kStart);
  CHECK(scaler.Decide(1000, 888, 0, kStart).wish == 10);
}

TEST_CASE("panic holds the most it wished for until a whole window after the threshold") {
  TrafficScaler scaler(KnativeTest(10), 1, kStart);
  CHECK(scaler.Decide(100, 100, 1, kStart).wish == 10);
  CHECK(scaler.Decide(100, 1000, 10, kStart).wish == 100);
  const TrafficWish held = scaler.Decide(1, 1, 10, kStart + 30s);
  CHECK(held.wish == 100);
  CHECK(held.held);
  CHECK(held.panicking == Duration(30s));
  CHECK(scaler.Decide(1, 1, 10, kStart + 60s).wish == 100);
  const TrafficWish calm = scaler.Decide(1, 1, 10, kStart + 61s);
  CHECK(calm.wish == 1);
  CHECK_FALSE(calm.panicking.has_value());
}

TEST_CASE("panic ends when the surge has made its way into the stable average") {
  TrafficScaler scaler(KnativeTest(1), 1, kStart);
  CHECK(scaler.Decide(11, 25, 10, kStart).wish == 25);
  CHECK(scaler.Decide(30, 41, 40, kStart + 30s).wish == 41);
  const TrafficWish after = scaler.Decide(50, 56, 55, kStart + 62s);
  CHECK(after.wish == 50);
  CHECK_FALSE(after.panicking.has_value());
}

TEST_CASE("a surge that goes on prolongs the panic") {
  TrafficScaler scaler(KnativeTest(1), 1, kStart);
  CHECK(scaler.Decide(11, 25, 10, kStart).wish == 25);
  CHECK(scaler.Decide(30, 80, 40, kStart + 30s).wish == 80);
  CHECK(scaler.Decide(30, 30, 80, kStart + 90s).wish == 80);
  CHECK(scaler.Decide(30, 30, 80, kStart + 91s).wish == 30);
}

TEST_CASE("panic keeps step with exponential growth") {
  TrafficScaler scaler(KnativeTest(1), 1, kStart);
  int ready = 1;
  for (int load = 6; load <= 1296; load *= 6) {
    CHECK(scaler.Decide(load, load, ready, kStart).wish == load);
    ready = load;
  }
  CHECK(scaler.Decide(1296, 1296, 1296, kStart + 1s).wish == 1296);
}

TEST_CASE("panic begins at the threshold, not below") {
  TrafficScaler below(KnativeTest(1), 1, kStart);
  CHECK_FALSE(below.Decide(10, 19, 10, kStart).panicking);
  TrafficScaler at(KnativeTest(1), 1, kStart);
  CHECK(at.Decide(10, 20, 10, kStart).panicking);
}

TEST_CASE("a new target counts from the next decision on") {
  TrafficScaler scaler(KnativeTest(10), 1, kStart);
  CHECK(scaler.Decide(100, 101, 1, kStart).wish == 10);
  scaler.Configure(KnativeTest(1), kStart);
  CHECK(scaler.Decide(100, 101, 10, kStart).wish == 100);
}

TEST_CASE("the activation scale is the least that is started for any load") {
  TrafficConfig config = KnativeTest(10);
  config.activation_scale = 2;
  TrafficScaler scaler(config, 1, kStart);
  CHECK(scaler.Decide(0, 0, 1, kStart).wish == 0);
  CHECK(scaler.Decide(1, 1, 1, kStart).wish == 2);
}

TEST_CASE("it starts in panic when more than one is ready already") {
  CHECK_FALSE(TrafficScaler(KnativeTest(100), 0, kStart).Decide(10, 10, 1, kStart).panicking);
  CHECK_FALSE(TrafficScaler(KnativeTest(100), 1, kStart).Decide(10, 10, 1, kStart).panicking);
  TrafficScaler two(KnativeTest(100), 2, kStart);
  const TrafficWish decided = two.Decide(10, 10, 2, kStart);
  CHECK(decided.panicking == Duration::zero());
  CHECK(decided.wish == 2);
}

TEST_CASE("a delayed scale-down waits until the greater wishes are that old") {
  TrafficScaler scaler(Delayed(), 1, kStart);
  CHECK(scaler.Decide(40, 40, 1, kStart + 2s).wish == 4);
  const TrafficWish delayed = scaler.Decide(0, 0, 1, kStart + 300s);
  CHECK(delayed.wish == 4);
  CHECK(delayed.held);
  CHECK(scaler.Decide(0, 0, 1, kStart + 302s).wish == 0);
  SUBCASE("and goes down by steps, as they grow old") {
    CHECK(scaler.Decide(40, 40, 1, kStart + 9min).wish == 4);
    CHECK(scaler.Decide(30, 30, 1, kStart + 10min).wish == 4);
    CHECK(scaler.Decide(0, 0, 1, kStart + 11min).wish == 4);
    CHECK(scaler.Decide(0, 0, 1, kStart + 14min).wish == 3);
    CHECK(scaler.Decide(0, 0, 1, kStart + 15min).wish == 0);
  }
}

TEST_CASE("the delay does not hold one that nobody can reach any more") {
  TrafficConfig config = Delayed();
  TrafficScaler scaler(config, 1, kStart);
  CHECK(scaler.Decide(40, 40, 1, kStart).wish == 4);
  CHECK(scaler.Decide(0, 0, 1, kStart + 60s).wish == 4);
  config.reachable = false;
  scaler.Configure(config, kStart + 62s);
  CHECK(scaler.Decide(0, 0, 1, kStart + 62s).wish == 0);
}

TEST_CASE("without a delay the newest wish of a moment counts, not its greatest") {
  TrafficConfig config = Delayed();
  config.scale_down_delay = 0s;
  TrafficScaler scaler(config, 1, kStart);
  CHECK(scaler.Decide(40, 40, 1, kStart).wish == 4);
  CHECK(scaler.Decide(20, 20, 1, kStart + 500ms).wish == 2);
}

// What follows is not in Knative's tables: windows of our own samples, and input to refuse.

TrafficSample At(Duration since, double concurrency, double rps = 0) {
  return {.at = kStart + since, .concurrency = concurrency, .rps = rps};
}

TEST_CASE("the defaults are Knative's") {
  const TrafficConfig config;
  CHECK(PanicWindow(config) == 6s);
  CHECK(SteeredTarget({.target = 100}) == doctest::Approx(70));
  CHECK(SteeredTarget({.target = 0}) == 0.01);
  CHECK(PanicWindow({.window = 6s}) == 1s);
  CHECK(PanicWindow({.window = 15s}) == 2s);  // 1.5 s, rounded
  CHECK(PanicWindow({.window = 60s, .panic_window_percentage = 1}) == 1s);
}

TEST_CASE("without data there is no wish, and after a window without there is none again") {
  TrafficScaler scaler(KnativeTest(10), 1, kStart);
  CHECK_FALSE(scaler.Decide(1, kStart).valid);
  scaler.Record(At(0s, 25));
  CHECK(scaler.Decide(1, kStart).wish == 3);
  CHECK(scaler.Decide(1, kStart + 60s).valid);
  CHECK_FALSE(scaler.Decide(1, kStart + 61s).valid);
}

TEST_CASE("a burst is seen in the panic window within seconds, in the stable one in a minute") {
  TrafficScaler scaler(KnativeTest(10), 1, kStart);
  for (int i = 0; i < 60; ++i) scaler.Record(At(i * 1s, 8));
  CHECK(scaler.Decide(1, kStart + 59s).wish == 1);
  for (int i = 60; i < 63; ++i) scaler.Record(At(i * 1s, 100));
  const TrafficWish burst = scaler.Decide(1, kStart + 62s);
  CHECK(burst.panic == doctest::Approx((3 * 100 + 3 * 8) / 6.0));
  CHECK(burst.stable == doctest::Approx((3 * 100 + 57 * 8) / 60.0));
  CHECK(burst.panicking);
  CHECK(burst.wish == 6);
}

TEST_CASE("requests a second count where they are the metric") {
  TrafficConfig config = KnativeTest(10);
  config.metric = TrafficConfig::Metric::kRps;
  TrafficScaler scaler(config, 1, kStart);
  scaler.Record(At(0s, 1, 50));
  CHECK(scaler.Decide(1, kStart).wish == 5);
  SUBCASE("and what was recorded is of no use once the metric is another") {
    scaler.Configure(KnativeTest(10), kStart);
    CHECK_FALSE(scaler.Decide(1, kStart).valid);
  }
}

TEST_CASE("an interval of two seconds counts for two") {
  TrafficScaler ones(KnativeTest(10), 1, kStart);
  TrafficScaler twos(KnativeTest(10), 1, kStart);
  for (int i = 1; i <= 60; ++i) ones.Record(At(i * 1s, 42));
  for (int i = 2; i <= 60; i += 2) {
    TrafficSample sample = At(i * 1s, 42);
    sample.interval = 2s;
    twos.Record(sample);
  }
  CHECK(ones.Decide(4, kStart + 60s).stable == 42);
  CHECK(twos.Decide(4, kStart + 60s).stable == 42);
  CHECK(twos.Decide(4, kStart + 60s).panic == 42);
}

TEST_CASE("two halves of a second count for one, and an hour for no more than the window") {
  TrafficScaler scaler(KnativeTest(10), 1, kStart);
  for (const Duration since : {100ms, 600ms}) {
    TrafficSample sample = At(since, 30);
    sample.interval = 500ms;
    scaler.Record(sample);
  }
  CHECK(scaler.Decide(1, kStart + 1s).stable == 30);
  TrafficSample sample = At(1h, 50);
  sample.interval = 1h;
  scaler.Record(sample);
  CHECK(scaler.Decide(1, kStart + 1h).stable == 50);
}

TEST_CASE("a sample that is no load is refused") {
  TrafficScaler scaler(KnativeTest(10), 1, kStart);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinite = std::numeric_limits<double>::infinity();
  CHECK_FALSE(scaler.Record(At(0s, nan)));
  CHECK_FALSE(scaler.Record(At(0s, infinite)));
  CHECK_FALSE(scaler.Record(At(0s, -1)));
  CHECK_FALSE(scaler.Record(At(0s, 1, nan)));
  TrafficSample timeless = At(0s, 1);
  timeless.interval = 0s;
  CHECK_FALSE(scaler.Record(timeless));
  CHECK_FALSE(scaler.Decide(1, kStart).valid);
  CHECK_FALSE(scaler.Decide(nan, 1, 1, kStart).valid);
}

TEST_CASE("a load beyond all counting is a great wish, not an overflow") {
  TrafficScaler scaler(KnativeTest(0.01), 1, kStart);
  CHECK(scaler.Decide(1e300, 1e300, 1'000'000'000, kStart).wish == 1'000'000);
  CHECK(scaler.Decide(1e300, 1e300, -5, kStart).wish >= 10);
}

TEST_CASE("a clock that jumps ahead empties the windows, one that jumps back changes nothing") {
  TrafficScaler scaler(KnativeTest(10), 1, kStart);
  for (int i = 0; i < 10; ++i) scaler.Record(At(i * 1s, 50));
  CHECK(scaler.Decide(5, kStart - 1h).wish == 5);
  CHECK_FALSE(scaler.Decide(5, kStart + 1h).valid);
  scaler.Record(At(1h, 20));
  CHECK(scaler.Decide(5, kStart + 1h).stable == 20);
}

}  // namespace
}  // namespace ctr::policy::traffic_scaler_test
