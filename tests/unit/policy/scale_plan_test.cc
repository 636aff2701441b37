#include "agent/policy/scale_plan.h"

#include <doctest/doctest.h>

namespace ctr::policy::scale_plan_test {
namespace {

using namespace std::chrono_literals;
using Ints = std::vector<int>;
using Phase = ScaledInstance::Phase;

ScaledInstance At(int index, int in_flight = 0, MonoTime last_activity = MonoTime(100s)) {
  return {.index = index, .in_flight = in_flight, .last_activity = last_activity};
}

ScaledInstance In(Phase phase, int index) {
  ScaledInstance instance = At(index);
  instance.phase = phase;
  return instance;
}

using Instances = std::vector<ScaledInstance>;

TEST_CASE("the lowest free indexes are started") {
  const Instances instances = {At(0), At(2), In(Phase::kStarting, 5)};
  CHECK(PlanScale(instances, {.count = 3}).start == Ints{});
  CHECK(PlanScale(instances, {.count = 5}).start == Ints{1, 3});
  CHECK(PlanScale({}, {.count = 2}).start == Ints{0, 1});
}

TEST_CASE("no index at or beyond max is started, and no more than there is room for") {
  CHECK(PlanScale(Instances{At(0)}, {.count = 5, .max = 3}).start == Ints{1, 2});
  CHECK(PlanScale(Instances{At(0)}, {.count = 5, .room = 2}).start == Ints{1, 2});
  CHECK(PlanScale(Instances{At(0)}, {.count = 5, .room = 0}).start == Ints{});
  CHECK(PlanScale(Instances{At(0)}, {.count = 5, .room = -3}).start == Ints{});
}

TEST_CASE("one that drains does not count, but its index is taken") {
  const Instances instances = {In(Phase::kDraining, 0), At(1)};
  CHECK(PlanScale(instances, {.count = 2}).start == Ints{2});
  CHECK(PlanScale(instances, {.count = 1}).drain == Ints{});
}

TEST_CASE("one that waits for its backoff keeps its place") {
  CHECK(PlanScale(Instances{In(Phase::kWaiting, 0)}, {.count = 1}).start == Ints{});
}

TEST_CASE("the one with the fewest in flight is drained") {
  const Instances instances = {At(0, 5), At(1, 2), At(2, 4)};
  CHECK(PlanScale(instances, {.count = 2}).drain == Ints{1});
  CHECK(PlanScale(instances, {.count = 1}).drain == Ints{1, 2});
  CHECK(PlanScale(instances, {.count = 0}).drain == Ints{1, 2, 0});
  CHECK(PlanScale(instances, {.count = 3}).drain == Ints{});
}

TEST_CASE("of those the one that has been idle for longest, of those the highest index") {
  const Instances idle = {At(0, 0, MonoTime(30s)), At(1, 0, MonoTime(10s)),
                          At(2, 0, MonoTime(20s))};
  CHECK(PlanScale(idle, {.count = 1}).drain == Ints{1, 2});
  CHECK(PlanScale(Instances{At(0), At(1), At(2)}, {.count = 1}).drain == Ints{2, 1});
}

TEST_CASE("those that are not healthy go before those that are") {
  const Instances instances = {At(0), In(Phase::kStarting, 1), At(2)};
  CHECK(PlanScale(instances, {.count = 2}).drain == Ints{1});
}

TEST_CASE("one beyond the indexes goes before others, and the one to be replaced before all") {
  const Instances instances = {At(0), At(1, 9), At(7, 9)};
  CHECK(PlanScale(instances, {.count = 2, .max = 5}).drain == Ints{7});
  CHECK(PlanScale(instances, {.count = 2, .max = 5, .victim = 1}).drain == Ints{1});
}

}  // namespace
}  // namespace ctr::policy::scale_plan_test
