#include <map>
#include <vector>

#include <doctest/doctest.h>

#include "agent/policy/autoscale.h"
#include "tests/unit/policy/fleet.h"

namespace ctr::policy {
namespace {

using namespace std::chrono_literals;
using Ints = std::vector<int>;
using Phase = ScaledInstance::Phase;

AutoscaleConfig WithCpu() {
  AutoscaleConfig config = Seven();
  config.target_cpu = 0.7;
  return config;
}

void UseCpu(Fleet& fleet, double cores) {
  for (auto& [index, instance] : fleet.instances) {
    instance.cpu_limit = 1;
    instance.cpu = {.cores = cores, .at = fleet.now + 1s, .window = 1s};
    instance.started_at = instance.ready_changed_at = kFleetStart - 1h;
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

}  // namespace
}  // namespace ctr::policy
