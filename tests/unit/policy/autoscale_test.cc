#include "agent/policy/autoscale.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <random>

#include <doctest/doctest.h>

namespace ctr::policy {
namespace {

using namespace std::chrono_literals;
using Ints = std::vector<int>;
using Phase = ScaledInstance::Phase;

const MonoTime kStart = MonoTime(100000s);

// Steers for seven requests in flight an instance, by traffic alone.
AutoscaleConfig Seven() {
  AutoscaleConfig config;
  config.traffic.target = 10;
  config.target_cpu.reset();
  config.target_memory.reset();
  return config;
}

// A class in virtual time: plans are carried out at once.
class Fleet {
 public:
  explicit Fleet(const AutoscaleConfig& config, int count = 0) : config_(config) {
    for (int i = 0; i < count; ++i) Start(i);
    view.last_activity = kStart;
    scaler_.emplace(config, View(), now);
  }

  AutoscaleDecision Decide() {
    AutoscaleDecision decision = scaler_->Decide(View(), now);
    for (const int index : decision.start) Start(index);
    for (const int index : decision.drain) instances.erase(index);
    return decision;
  }

  // A second passes with that much in flight, by which the instances are busy.
  AutoscaleDecision Second(double in_flight) {
    now += 1s;
    const TrafficSample sample{.at = now, .concurrency = in_flight, .rps = in_flight};
    CHECK(scaler_->Record(sample));
    if (in_flight > 0) view.last_activity = now;
    for (auto& [index, instance] : instances) {
      instance.in_flight = static_cast<int>(std::ceil(in_flight / static_cast<double>(count())));
      if (in_flight > 0) instance.last_activity = now;
    }
    return Decide();
  }

  AutoscaleDecision Seconds(int seconds, double in_flight) {
    AutoscaleDecision decision;
    for (int i = 0; i < seconds; ++i) decision = Second(in_flight);
    return decision;
  }

  void Start(int index) {
    ScaledInstance instance;
    instance.index = index;
    instance.phase = start_as;
    instance.generation = ++generation_;
    instance.last_activity = now;
    instance.started_at = instance.ready_changed_at = now;
    instances[index] = instance;
  }

  int count() const { return static_cast<int>(instances.size()); }

  Ints indexes() const {
    Ints all;
    for (const auto& [index, instance] : instances) all.push_back(index);
    return all;
  }

  void Configure(const AutoscaleConfig& config) { scaler_->Configure(config, now); }

  std::map<int, ScaledInstance> instances;
  AutoscaleView view;
  MonoTime now = kStart;
  Phase start_as = Phase::kHealthy;

 private:
  const AutoscaleView& View() {
    list_.clear();
    for (const auto& [index, instance] : instances) list_.push_back(instance);
    view.instances = list_;
    return view;
  }

  AutoscaleConfig config_;
  std::vector<ScaledInstance> list_;
  std::optional<Autoscaler> scaler_;
  uint64_t generation_ = 0;
};

const SignalReport* Find(const AutoscaleDecision& decision, Signal signal) {
  for (const SignalReport& report : decision.signals) {
    if (report.signal == signal) return &report;
  }
  return nullptr;
}

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
  TrafficScaler kpa(TrafficOf(config), 5, kStart);
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
  Autoscaler scaler(Seven(), view, kStart);
  CHECK_FALSE(scaler.Record({.at = kStart, .concurrency = -1}));
  CHECK_FALSE(
      scaler.Record({.at = kStart, .concurrency = std::numeric_limits<double>::infinity()}));
}

// CPU and memory.
AutoscaleConfig WithCpu() {
  AutoscaleConfig config = Seven();
  config.target_cpu = 0.7;
  return config;
}

void UseCpu(Fleet& fleet, double cores) {
  for (auto& [index, instance] : fleet.instances) {
    instance.cpu_limit = 1;
    instance.cpu = {.cores = cores, .at = fleet.now + 1s, .window = 1s};
    instance.started_at = instance.ready_changed_at = kStart - 1h;
  }
}

TEST_CASE("the greatest wish wins") {
  Fleet fleet(WithCpu(), 2);
  for (int i = 0; i < 20; ++i) {
    UseCpu(fleet, 1.0);
    fleet.Second(3);
  }
  CHECK(fleet.count() > 4);
  UseCpu(fleet, 0.7);
  const AutoscaleDecision decision = fleet.Second(3);
  CHECK(decision.reason.starts_with("cpu: 70 % of the limit, target 70 %: wants "));
  REQUIRE(Find(decision, Signal::kCpu));
  CHECK(Find(decision, Signal::kCpu)->value == doctest::Approx(0.7));
}

TEST_CASE("idle CPU does not keep a class awake") {
  AutoscaleConfig config = WithCpu();
  config.sleep_after = 1min;
  Fleet fleet(config, 1);
  for (int i = 0; i < 60; ++i) {
    UseCpu(fleet, 0.02);
    fleet.Second(0);
  }
  CHECK(fleet.count() == 0);
}

TEST_CASE("where CPU has no limit it is not used; where it has no samples yet none goes") {
  Fleet fleet(WithCpu(), 3);
  fleet.Seconds(100, 20);
  fleet.Seconds(120, 3);
  CHECK(fleet.count() == 1);
  fleet.Seconds(30, 20);
  CHECK(fleet.count() == 3);
  for (auto& [index, instance] : fleet.instances) instance.cpu_limit = 1;
  AutoscaleDecision decision = fleet.Seconds(120, 3);
  CHECK(fleet.count() == 3);
  CHECK(decision.bound == Bound::kNoData);
}

void UseMemory(Fleet& fleet, const std::map<int, double>& parts) {
  for (auto& [index, instance] : fleet.instances) {
    instance.memory_limit = 100e6;
    const auto part = parts.find(index);
    instance.memory_used = 100e6 * (part == parts.end() ? 0.3 : part->second);
  }
}

AutoscaleConfig WithMemory() {
  AutoscaleConfig config = Seven();
  config.target_memory = 0.8;
  return config;
}

TEST_CASE("memory above its target adds, below it abstains") {
  Fleet fleet(WithMemory(), 2);
  UseMemory(fleet, {{0, 0.9}, {1, 0.9}});
  AutoscaleDecision decision = fleet.Second(10);
  CHECK(decision.desired == 3);
  CHECK(decision.reason == "memory: 90 % of the limit, target 80 %: wants 3");
  UseMemory(fleet, {});
  decision = fleet.Second(10);
  REQUIRE(Find(decision, Signal::kMemory));
  CHECK(Find(decision, Signal::kMemory)->value == doctest::Approx(0.3));
}

TEST_CASE("an instance close to its memory limit is replaced once another is ready") {
  Fleet fleet(WithMemory(), 2);
  fleet.Seconds(70, 12);
  fleet.start_as = Phase::kStarting;
  UseMemory(fleet, {{0, 0.96}});
  AutoscaleDecision decision = fleet.Second(12);
  CHECK(decision.desired == 2);
  CHECK(decision.replacing == 0);
  CHECK(decision.start == Ints{2});
  CHECK(decision.drain.empty());
  decision = fleet.Second(12);
  CHECK(decision.start.empty());
  CHECK(decision.drain.empty());
  fleet.instances[2].phase = Phase::kHealthy;
  decision = fleet.Second(12);
  CHECK(decision.drain == Ints{0});
  CHECK_FALSE(fleet.Second(12).replacing);
  CHECK(fleet.indexes() == Ints{1, 2});
}

TEST_CASE("the only one is not drained before its replacement is ready") {
  AutoscaleConfig config = WithMemory();
  config.target_memory = 0.99;
  Fleet fleet(config, 1);
  fleet.start_as = Phase::kStarting;
  UseMemory(fleet, {{0, 0.97}});
  CHECK(fleet.Second(3).start == Ints{1});
  for (int i = 0; i < 20; ++i) REQUIRE(fleet.Second(3).drain.empty());
  fleet.instances[1].phase = Phase::kHealthy;
  CHECK(fleet.Second(3).drain == Ints{0});
}

TEST_CASE("without room for another one of several goes first, the only one stays") {
  AutoscaleConfig config = WithMemory();
  config.max = 2;
  Fleet two(config, 2);
  UseMemory(two, {{1, 0.97}});
  CHECK(two.Second(12).drain == Ints{1});
  CHECK(two.Second(12).start == Ints{1});

  config.max = 1;
  Fleet one(config, 1);
  UseMemory(one, {{0, 0.97}});
  const AutoscaleDecision decision = one.Second(3);
  CHECK(decision.replacing == 0);
  CHECK(decision.drain.empty());
  CHECK(decision.start.empty());
}

TEST_CASE("one is replaced at a time, and not all the time") {
  Fleet fleet(WithMemory(), 3);
  fleet.Seconds(70, 20);
  std::vector<MonoTime> drained;
  for (int i = 0; i < 900; ++i) {
    UseMemory(fleet, {{0, 0.96}, {1, 0.96}, {2, 0.96}, {3, 0.96}});  // it is how they are
    const AutoscaleDecision decision = fleet.Second(20);
    REQUIRE(decision.drain.size() <= 1);
    if (decision.replacing && !decision.drain.empty()) drained.push_back(fleet.now);
  }
  CHECK(drained.size() <= 3);
  CHECK(drained.size() >= 1);
}

TEST_CASE("a replacement ends when its instance does") {
  AutoscaleConfig config = WithMemory();
  config.target_memory = 0.99;
  Fleet fleet(config, 1);
  fleet.start_as = Phase::kStarting;
  UseMemory(fleet, {{0, 0.97}});
  CHECK(fleet.Second(3).replacing == 0);
  fleet.Start(0);  // it was killed, and is started again: another generation
  CHECK_FALSE(fleet.Second(3).replacing);
  CHECK(fleet.count() == 1);
}

TEST_CASE("what is impossible in a configuration is named") {
  const auto check = [](const std::function<void(AutoscaleConfig&)>& change) {
    AutoscaleConfig config;
    change(config);
    return CheckAutoscale(config);
  };
  CHECK(CheckAutoscale({}).empty());
  CHECK(check([](auto& c) { c.min = -1; }) == "min must be at least 0");
  CHECK(check([](auto& c) { c.max = 0; }) == "max must be at least 1");
  CHECK(check([](auto& c) { c.min = 21; }) == "min must be at most max");
  CHECK(check([](auto& c) { c.target_cpu = 0; }).starts_with("target_cpu"));
  CHECK(check([](auto& c) { c.target_memory = 1.1; }).starts_with("target_memory"));
  CHECK(check([](auto& c) { c.tolerance = 1; }).starts_with("tolerance"));
  CHECK(check([](auto& c) { c.traffic.target = 0; }).starts_with("target_concurrency"));
  CHECK(check([](auto& c) {
          c.traffic.metric = TrafficConfig::Metric::kRps;
          c.traffic.target = std::numeric_limits<double>::quiet_NaN();
        }).starts_with("target_rps"));
  CHECK(check([](auto& c) { c.traffic.target_utilization = 0; }).starts_with("target_util"));
  CHECK(check([](auto& c) { c.traffic.window = 5s; }).starts_with("window"));
  CHECK(check([](auto& c) { c.traffic.window = 6500ms; }).starts_with("window"));
  CHECK(check([](auto& c) { c.traffic.window = 2h; }).starts_with("window"));
  CHECK(check([](auto& c) { c.traffic.panic_window_percentage = 0.5; }).starts_with("panic_win"));
  CHECK(check([](auto& c) { c.traffic.panic_threshold = 100; }).starts_with("panic_threshold"));
  CHECK(check([](auto& c) { c.traffic.max_scale_up_rate = 1; }).starts_with("max_scale_up"));
  CHECK(check([](auto& c) { c.traffic.max_scale_down_rate = 1; }).starts_with("max_scale_down"));
  CHECK(check([](auto& c) { c.traffic.activation_scale = 0; }).starts_with("activation_scale"));
  CHECK(check([](auto& c) { c.traffic.scale_down_delay = -1s; }).starts_with("scale_down_delay"));
}

}  // namespace
}  // namespace ctr::policy
