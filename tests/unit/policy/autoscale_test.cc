#include "agent/policy/autoscale.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include <doctest/doctest.h>

#include "tests/unit/policy/fleet.h"

namespace ctr::policy {
namespace {

using namespace std::chrono_literals;
using Ints = std::vector<int>;
using Phase = ScaledInstance::Phase;

TEST_CASE("the first request starts one at once") {
  Fleet fleet(Seven());
  fleet.view.queued = 1;
  const AutoscaleDecision decision = fleet.Decide();
  CHECK(decision.desired == 1);
  CHECK(decision.start == Ints{0});
  CHECK(decision.reason.starts_with("queue: 1 waiting / 0 ready: wants 1"));
}

TEST_CASE("a burst from zero starts as many as its queue needs, and more as it grows") {
  Fleet fleet(Seven());
  fleet.start_as = Phase::kStarting;
  fleet.view.queued = 20;
  CHECK(fleet.Decide().start == Ints{0, 1, 2});
  fleet.view.queued = 50;
  CHECK(fleet.Decide().start == Ints{3, 4, 5, 6, 7});
  fleet.view.queued = 10000;
  const AutoscaleDecision most = fleet.Decide();
  CHECK(most.desired == 20);
  CHECK(most.bound == Bound::kMax);
}

TEST_CASE("deciding again at the same time gives nothing to do") {
  Fleet fleet(Seven());
  fleet.view.queued = 20;
  CHECK(fleet.Decide().start.size() == 3);
  for (int i = 0; i < 3; ++i) {
    const AutoscaleDecision again = fleet.Decide();
    CHECK(again.start.empty());
    CHECK(again.drain.empty());
  }
}

TEST_CASE("with some ready a queue counts once it fills another one") {
  AutoscaleConfig config = Seven();
  CHECK(BurstWish(config, 0, 0) == 0);
  CHECK(BurstWish(config, 100, 2) == 0);  // without max_concurrency nothing waits for a place
  config.max_concurrency = 10;
  CHECK(BurstWish(config, 9, 2) == 0);
  CHECK(BurstWish(config, 10, 2) == 3);
  CHECK(BurstWish(config, 35, 2) == 6);
  config.traffic.activation_scale = 3;
  CHECK(BurstWish(config, 1, 0) == 3);
  config.traffic.max_scale_up_rate = 2;
  CHECK(BurstWish(config, 1000, 0) == 2);
  CHECK(BurstWish(config, 1000, 2) == 4);
  CHECK(BurstWish(config, -4, 0) == 0);
}

TEST_CASE("the target is no more than one instance takes at a time") {
  AutoscaleConfig config = Seven();
  config.max_concurrency = 2;
  CHECK(BurstWish(config, 14, 0) == 10);
  config.traffic.metric = TrafficConfig::Metric::kRps;
  CHECK(BurstWish(config, 14, 0) == 2);
}

TEST_CASE("traffic is followed up and down, and says so") {
  Fleet fleet(Seven(), 1);
  AutoscaleDecision decision = fleet.Seconds(60, 37.2);
  CHECK(fleet.count() == 6);
  CHECK(decision.panicking);
  CHECK(decision.reason ==
        "traffic: 37.2 in flight / 6 ready, target 7: wants 6; panic since 59 s");
  decision = fleet.Seconds(10, 37.2);
  CHECK_FALSE(decision.panicking);
  CHECK(decision.reason == "traffic: 37.2 in flight / 6 ready, target 7: wants 6");
  decision = fleet.Seconds(120, 10);
  CHECK(fleet.count() == 2);
  const SignalReport* traffic = Find(decision, Signal::kTraffic);
  REQUIRE(traffic);
  CHECK(traffic->value == 10);
  CHECK(traffic->target == 7);
  CHECK(traffic->wish == 2);
}

TEST_CASE("requests a second are followed, too") {
  AutoscaleConfig config = Seven();
  config.traffic.metric = TrafficConfig::Metric::kRps;
  config.traffic.target = 100;
  Fleet fleet(config, 1);
  const AutoscaleDecision decision = fleet.Seconds(70, 300);
  CHECK(fleet.count() == 5);
  CHECK(decision.reason == "traffic: 300 requests/s / 5 ready, target 70: wants 5");
}

TEST_CASE("noise of a tenth for ten minutes changes nothing, wherever the load is") {
  for (const double load : {3.0, 7.0, 7.1, 10.0, 14.0, 20.9, 21.0, 33.0, 70.0, 73.5, 77.0, 133.0}) {
    for (const int seconds_alike : {1, 7, 60}) {  // how long the noise stays the same
      AutoscaleConfig config = Seven();
      config.max_concurrency = 10;
      const int count = static_cast<int>(std::ceil(load / 7));
      Fleet fleet(config, count);
      std::mt19937 random(static_cast<unsigned>(load * 10) + seconds_alike);
      fleet.Seconds(61, load);
      double noise = 0;
      for (int second = 0; second < 600; ++second) {
        if (second % seconds_alike == 0) noise = (random() % 2001 / 1000.0 - 1) / 10;
        const AutoscaleDecision decision = fleet.Second(load * (1 + noise));
        REQUIRE(decision.desired == count);
        REQUIRE(decision.start.empty());
        REQUIRE(decision.drain.empty());
      }
    }
  }
}

TEST_CASE("without tolerance and hold it is the KPA to the letter") {
  AutoscaleConfig config = Seven();
  config.tolerance = 0;
  config.scale_in_hold = 0s;
  Fleet fleet(config, 5);
  TrafficScaler kpa(TrafficOf(config), 5, kFleetStart);
  std::mt19937 random(7);
  for (int second = 0; second < 900; ++second) {
    const double load = 35 + 30 * std::sin(second / 50.0) + random() % 5;
    kpa.Record({.at = fleet.now + 1s, .concurrency = load});
    const int ready = fleet.count();
    const AutoscaleDecision decision = fleet.Second(load);
    REQUIRE(decision.desired == std::clamp(kpa.Decide(ready, fleet.now).wish, 1, 20));
  }
}

TEST_CASE("fewer must be wished for through the hold, then go to the most that was") {
  Fleet fleet(Seven(), 4);
  fleet.Seconds(62, 28);  // out of the panic it starts in
  int held = 0;
  AutoscaleDecision decision;
  do {
    decision = fleet.Second(1);
    held += decision.bound == Bound::kHold;
  } while (decision.desired == 4);
  CHECK(held == 10);
  CHECK(decision.desired == 3);
  CHECK(decision.drain.size() == 1);
}

TEST_CASE("a wish for more in between ends the hold") {
  AutoscaleConfig config = Seven();
  config.traffic.window = 6s;
  Fleet fleet(config, 2);
  fleet.Seconds(20, 14);
  for (int i = 0; i < 30; ++i) {
    fleet.Seconds(8, 2);
    fleet.Seconds(6, 14);
    REQUIRE(fleet.count() == 2);
  }
}

TEST_CASE("one stays awake until the class was idle for sleep_after, then sleeps") {
  Fleet fleet(Seven(), 3);
  fleet.Seconds(100, 20);
  AutoscaleDecision decision = fleet.Seconds(300, 0);
  CHECK(fleet.count() == 1);
  CHECK(decision.bound == Bound::kLastAwake);
  CHECK(decision.check_at == fleet.view.last_activity + 10min);
  CHECK(decision.reason.ends_with("one stays awake until idle for 600 s"));
  decision = fleet.Seconds(299, 0);
  CHECK(fleet.count() == 1);
  decision = fleet.Second(0);
  CHECK(decision.desired == 0);
  CHECK(decision.bound == Bound::kIdle);
  CHECK(decision.reason == "idle: sleeps until the next request");
  CHECK(fleet.count() == 0);
}

TEST_CASE("a sleep_after shorter than the window counts from the activity's end all the same") {
  AutoscaleConfig config = Seven();
  config.sleep_after = 10s;
  Fleet fleet(config, 3);
  fleet.Seconds(100, 20);
  fleet.Seconds(9, 0);
  CHECK(fleet.count() == 3);
  CHECK(fleet.Second(0).desired == 0);
  // And what the window still has of it wakes none.
  for (int i = 0; i < 70; ++i) REQUIRE(fleet.Second(0).desired == 0);
  fleet.view.queued = 1;
  CHECK(fleet.Decide().start == Ints{0});
}

TEST_CASE("what is active keeps it awake, though no request is in flight") {
  AutoscaleConfig config = Seven();
  config.sleep_after = 10s;
  Fleet fleet(config, 1);
  fleet.view.busy = true;
  fleet.Seconds(100, 0);
  CHECK(fleet.count() == 1);
  fleet.view.busy = false;
  fleet.view.last_activity = fleet.now;
  CHECK_FALSE(fleet.Seconds(9, 0).desired == 0);
  CHECK(fleet.Second(0).desired == 0);
}

TEST_CASE("with a min, or where sleep_after is never, it does not sleep") {
  AutoscaleConfig config = Seven();
  config.min = 2;
  Fleet two(config);
  CHECK(two.Second(0).start == Ints{0, 1});
  CHECK(two.Seconds(3600, 0).desired == 2);
  CHECK(two.Second(0).bound == Bound::kMin);

  config.min = 0;
  config.sleep_after.reset();
  Fleet one(config, 1);
  CHECK(one.Seconds(3600, 0).desired == 1);
  CHECK(one.Second(0).bound == Bound::kLastAwake);
}

TEST_CASE("a class that sleeps needs no data to go on doing so") {
  Fleet fleet(Seven());
  const AutoscaleDecision decision = fleet.Decide();
  CHECK(decision.desired == 0);
  CHECK(decision.start.empty());
}

TEST_CASE("the bounds, and which of them it was") {
  Fleet fleet(Seven(), 1);
  const double load = 1000;
  SUBCASE("max") {
    CHECK(fleet.Seconds(5, load).desired == 20);
    CHECK(fleet.Second(load).bound == Bound::kMax);
    CHECK(fleet.Second(load).reason.ends_with("max is 20"));
  }
  SUBCASE("max_instances, less those that are not the autoscaler's") {
    fleet.view.max_instances = 12;
    fleet.view.others = 3;
    CHECK(fleet.Seconds(5, load).desired == 9);
    CHECK(fleet.Second(load).bound == Bound::kMaxInstances);
    CHECK(fleet.Second(load).reason.ends_with("max_instances leaves 9"));
  }
  SUBCASE("the host") {
    fleet.view.host_capacity = 4;
    CHECK(fleet.Seconds(5, load).desired == 4);
    CHECK(fleet.Second(load).bound == Bound::kHost);
    CHECK(fleet.Second(load).reason.ends_with("the host can hold 4"));
    fleet.view.host_capacity = 2;  // no room takes none away
    CHECK(fleet.Second(load).desired == 4);
  }
  SUBCASE("the host, before min") {
    AutoscaleConfig config = Seven();
    config.min = 5;
    Fleet small(config);
    small.view.host_capacity = 2;
    CHECK(small.Second(0).start == Ints{0, 1});
    CHECK(small.Second(0).bound == Bound::kHost);
  }
}

TEST_CASE("a lower max is followed at once, and the highest indexes go") {
  Fleet fleet(Seven(), 5);
  fleet.Seconds(10, 35);
  AutoscaleConfig config = Seven();
  config.max = 3;
  fleet.Configure(config);
  fleet.Second(35);
  CHECK(fleet.indexes() == Ints{0, 1, 2});
}

TEST_CASE("what drains still takes its room and its index") {
  Fleet fleet(Seven(), 2);
  fleet.instances[0].phase = Phase::kDraining;
  fleet.view.max_instances = 3;
  const AutoscaleDecision decision = fleet.Seconds(5, 1000);
  CHECK(decision.desired == 2);
  CHECK(fleet.indexes() == Ints{0, 1, 2});
}

TEST_CASE("what the last one still answers while it drains starts no other") {
  Fleet fleet(Seven(), 1);
  fleet.Seconds(10, 3);
  fleet.instances[0].phase = Phase::kDraining;
  CHECK(fleet.Second(1).start.empty());
  CHECK(fleet.Second(1).desired == 0);
}

TEST_CASE("one that ended is started again while the load wants it") {
  Fleet fleet(Seven(), 3);
  fleet.Seconds(70, 20);
  fleet.instances.erase(1);
  CHECK(fleet.Second(20).start == Ints{1});
}

TEST_CASE("one that cannot start does not drag the others in") {
  Fleet fleet(Seven());
  fleet.view.queued = 1;
  fleet.Decide();
  fleet.instances[0].phase = Phase::kWaiting;
  for (int i = 0; i < 100; ++i) REQUIRE(fleet.Second(1).start.empty());
}

TEST_CASE("an agent that starts anew keeps as many as there are until it has a window of data") {
  Fleet fleet(Seven(), 6);
  CHECK(fleet.Decide().desired == 6);
  CHECK(fleet.Decide().bound == Bound::kNoData);
  CHECK(fleet.Seconds(59, 3).desired == 6);
  CHECK(fleet.Seconds(60, 3).desired == 1);
}

TEST_CASE("without samples none goes") {
  Fleet fleet(Seven(), 1);
  fleet.Seconds(30, 35);
  CHECK(fleet.count() == 5);
  fleet.now += 5min;
  CHECK(fleet.Decide().desired == 5);
  CHECK(fleet.Decide().bound == Bound::kNoData);
  CHECK(fleet.Decide().reason == "traffic: no data yet; stays at 5 until there is data");
}

TEST_CASE("a sample that is no load is refused") {
  const AutoscaleView view;
  Autoscaler scaler(Seven(), view, kFleetStart);
  CHECK_FALSE(scaler.Record({.at = kFleetStart, .concurrency = -1}));
  CHECK_FALSE(
      scaler.Record({.at = kFleetStart, .concurrency = std::numeric_limits<double>::infinity()}));
}

}  // namespace
}  // namespace ctr::policy
