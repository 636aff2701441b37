#include "agent/policy/cpu_scaler.h"

#include <limits>
#include <vector>

#include <doctest/doctest.h>

namespace ctr::policy::cpu_scaler_test {
namespace {

using namespace std::chrono_literals;
using Phase = CpuInstance::Phase;

const MonoTime kNow = MonoTime(100000s);

// The periods of Kubernetes' tests; its controller's are longer.
CpuConfig Target(double target) {
  CpuConfig config;
  config.target = target;
  config.initialization = 2min;
  config.initial_readiness_delay = 10s;
  return config;
}

// One that has run for long.
CpuInstance Uses(double cores, double limit = 1) {
  CpuInstance instance;
  instance.limit_cores = limit;
  instance.sample = {.cores = cores, .at = kNow, .window = 1min};
  instance.started_at = instance.ready_changed_at = kNow - 1h;
  return instance;
}

CpuInstance Missing() {
  CpuInstance instance = Uses(0);
  instance.sample.reset();
  return instance;
}

CpuInstance NeverReady(double cores) {
  CpuInstance instance = Uses(cores);
  instance.ready = false;
  return instance;
}

// One that started a moment ago: a "hot" CPU tells nothing yet.
CpuInstance JustStarted(double cores) {
  CpuInstance instance = Uses(cores);
  instance.started_at = instance.ready_changed_at = kNow;
  return instance;
}

CpuInstance In(Phase phase) {
  CpuInstance instance = Missing();
  instance.phase = phase;
  return instance;
}

int Wish(const std::vector<CpuInstance>& instances, int current, double target) {
  const CpuWish wish = CpuReplicas(instances, current, Target(target), kNow);
  CHECK(wish.valid());
  return wish.wish;
}

// The numbers of these cases are those of Kubernetes' own tests (replica_calculator_test.go).
TEST_CASE("their number grows and shrinks by the ratio to the target, rounded up") {
  CHECK(Wish({Uses(0.3), Uses(0.5), Uses(0.7)}, 3, 0.3) == 5);
  CHECK(Wish({Uses(0.1), Uses(0.3), Uses(0.5), Uses(0.25), Uses(0.25)}, 5, 0.5) == 3);
  CHECK(Wish({Uses(4), Uses(9.5), Uses(3), Uses(7)}, 4, 1) == 24);
}

TEST_CASE("one that is not ready counts as idle where more are wanted") {
  CHECK(Wish({NeverReady(0.3), Uses(0.5), Uses(0.7)}, 3, 0.3) == 4);
  CHECK(Wish({JustStarted(0.3), Uses(0.5), Uses(0.7)}, 3, 0.3) == 4);
  SUBCASE("and if it would turn the wish, nothing changes") {
    CHECK(Wish({Uses(0.4), NeverReady(0.5), NeverReady(0.7)}, 3, 0.3) == 3);
    CHECK(Wish({Uses(0.4), JustStarted(0.5), JustStarted(0.7)}, 3, 0.3) == 3);
  }
}

TEST_CASE("one that is not ready does not count where fewer would do") {
  CHECK(Wish({Uses(0.1), Uses(0.3), Uses(0.5), NeverReady(0.25), NeverReady(0.25)}, 5, 0.5) == 2);
  CHECK(Wish({Uses(0.1), Uses(0.3), Uses(0.5), JustStarted(0.25), JustStarted(0.25)}, 5, 0.5) == 2);
  CHECK(Wish({Uses(0.1), In(Phase::kPending), In(Phase::kPending), In(Phase::kPending),
              In(Phase::kPending)},
             5, 0.5) == 1);
}

TEST_CASE("those that leave do not count at all") {
  CHECK(Wish({Uses(0.5), Uses(0.7), In(Phase::kLeaving), In(Phase::kLeaving)}, 2, 0.3) == 4);
  CHECK(Wish({Uses(0.1), Uses(0.3), Uses(0.5), Uses(0.25), Uses(0.25), In(Phase::kLeaving),
              In(Phase::kLeaving)},
             5, 0.5) == 3);
}

TEST_CASE("one without a sample counts as busy where fewer would do, as idle where more are") {
  CHECK(Wish({Uses(0.4), Uses(0.095), Missing(), Missing()}, 4, 1) == 3);
  CHECK(Wish({Uses(1), Missing()}, 2, 1) == 2);
  CHECK(Wish({Uses(1.9), Missing()}, 2, 1) == 2);
  CHECK(Wish({Uses(0.6), Missing()}, 2, 1) == 2);
}

TEST_CASE("samples missing and instances not ready at once") {
  CHECK(Wish({NeverReady(0.1), Uses(0.45), Missing()}, 3, 0.5) == 3);
  CHECK(Wish({JustStarted(0.1), Uses(0.45), Missing()}, 3, 0.5) == 3);
  CHECK(Wish({NeverReady(0.1), Uses(2), Missing()}, 3, 0.5) == 4);
  CHECK(Wish({JustStarted(0.1), Uses(2), Missing()}, 3, 0.5) == 4);
  CHECK(Wish({NeverReady(0.1), Uses(0.1), Uses(0.1), Missing()}, 4, 0.5) == 3);
}

TEST_CASE("a wish that only the count of samples would turn is none") {
  // 10 are to be, only two are seen: more per instance must not become fewer instances.
  CHECK(Wish({Uses(0.6), Uses(0.6), NeverReady(0)}, 10, 0.3) == 10);
}

TEST_CASE("within a tenth of the target nothing changes") {
  // Ten instances of 0.3 cores, more or less, each of which uses 0.15: half.
  std::vector<CpuInstance> instances;
  for (const double off : {0.1, -0.1, 0.01, -0.01, 0.002, -0.002, 0.001, -0.001, 0.0, 0.0}) {
    instances.push_back(Uses(0.15, 0.3 + off));
  }
  CHECK(Wish(instances, 10, 0.56) == 9);
  CHECK(Wish(instances, 10, 0.55) == 10);
  CHECK(Wish({Uses(0.77)}, 1, 0.7) == 1);
  CHECK(Wish({Uses(0.78)}, 1, 0.7) == 2);
  CHECK(Wish({Uses(0.63), Uses(0.63)}, 2, 0.7) == 2);
}

// The groups of TestGroupPods: alone, only one whose sample counts makes for a wish.
bool Counts(const CpuInstance& instance) {
  return CpuReplicas(std::vector{instance}, 1, Target(0.5), kNow).valid();
}

TEST_CASE("at the start a sample counts once its whole window is since it became ready") {
  CpuInstance instance = Uses(1);
  instance.started_at = kNow - 1min;
  instance.ready_changed_at = kNow - 30s;
  instance.sample->window = 30s;
  CHECK(Counts(instance));
  instance.sample->window = 60s;
  CHECK_FALSE(Counts(instance));
  instance.sample->window = 30s;
  instance.ready = false;
  CHECK_FALSE(Counts(instance));
}

TEST_CASE("later an old sample counts, and one that was ready once counts while it is not") {
  CpuInstance instance = Uses(1);
  instance.started_at = instance.ready_changed_at = kNow - 3min;
  instance.sample->at = kNow - 2min;
  CHECK(Counts(instance));

  instance.ready = false;
  instance.started_at = kNow - 10min;
  instance.ready_changed_at = kNow - 9min;
  CHECK(Counts(instance));
  instance.ready_changed_at = kNow - 9min - 50s;
  CHECK(Counts(instance));
  instance.ready_changed_at = kNow - 9min - 54s;  // within 10 s of its start: never was ready
  CHECK_FALSE(Counts(instance));
}

TEST_CASE("without a state or a start it does not count") {
  CpuInstance instance = Uses(1);
  instance.started_at.reset();
  CHECK_FALSE(Counts(instance));
  instance = Uses(1);
  instance.ready_changed_at.reset();
  CHECK_FALSE(Counts(instance));
}

TEST_CASE("where there is nothing to go by there is no wish, and it says why") {
  using Status = CpuWish::Status;
  const auto status = [](const std::vector<CpuInstance>& instances) {
    return CpuReplicas(instances, 4, Target(1), kNow).status;
  };
  CHECK(status({}) == Status::kNoInstances);
  CHECK(status({In(Phase::kLeaving)}) == Status::kNoInstances);
  CHECK(status({Missing(), Missing()}) == Status::kNoSamples);
  CHECK(status({In(Phase::kPending)}) == Status::kNoSamples);
  CHECK(status({Uses(0.5), Uses(0.5, 0)}) == Status::kNoLimit);
  CHECK(status({Uses(std::numeric_limits<double>::quiet_NaN())}) == Status::kNoSamples);
  CHECK(status({Uses(-1)}) == Status::kNoSamples);
  CHECK(status({Uses(1, std::numeric_limits<double>::quiet_NaN())}) == Status::kNoLimit);
}

// Over time.
std::vector<CpuInstance> All(int count, double cores) {
  return std::vector<CpuInstance>(static_cast<size_t>(count), Uses(cores));
}

TEST_CASE("it does not go down before it has watched for five minutes") {
  CpuScaler scaler(Target(0.5));
  const CpuWish first = scaler.Decide(All(5, 0.28), 5, kNow);
  CHECK(first.wish == 5);
  CHECK(first.stabilized);
  CHECK(scaler.Decide(All(5, 0.28), 5, kNow + 299s).wish == 5);
  CHECK(scaler.Decide(All(5, 0.28), 5, kNow + 300s).wish == 3);
}

TEST_CASE("down to the most that was wished for in the last five minutes") {
  CpuScaler scaler(Target(0.5));
  scaler.Decide(All(10, 0.5), 10, kNow);
  CHECK(scaler.Decide(All(10, 0.2), 10, kNow + 3min).wish == 10);
  CHECK(scaler.Decide(All(10, 0.25), 10, kNow + 4min).wish == 10);
  CHECK(scaler.Decide(All(10, 0.1), 10, kNow + 5min).wish == 5);
  CHECK(scaler.Decide(All(5, 0.1), 5, kNow + 8min).wish == 5);
  CHECK(scaler.Decide(All(5, 0.1), 5, kNow + 9min).wish == 2);
}

TEST_CASE("an old wish never raises the number there are") {
  CpuScaler scaler(Target(0.5));
  scaler.Decide(All(10, 0.5), 10, kNow);
  CHECK(scaler.Decide(All(4, 0.4), 4, kNow + 1min).wish == 4);
}

TEST_CASE("up by four or by twice, whichever is more, in fifteen seconds") {
  CpuScaler scaler(Target(0.1));
  CpuWish wish = scaler.Decide(All(1, 1), 1, kNow);
  CHECK(wish.wish == 5);
  CHECK(wish.rate_limited);
  scaler.Scaled(1, 5, kNow);
  CHECK(scaler.Decide(All(5, 1), 5, kNow + 1s).wish == 5);
  CHECK(scaler.Decide(All(5, 1), 5, kNow + 14s).wish == 5);
  CHECK(scaler.Decide(All(5, 1), 5, kNow + 15s).wish == 10);
  scaler.Scaled(5, 10, kNow + 15s);
  CHECK(scaler.Decide(All(10, 1), 10, kNow + 20s).wish == 10);
  CHECK(scaler.Decide(All(10, 1), 10, kNow + 30s).wish == 20);
}

TEST_CASE("what was taken away within the period may come back at once") {
  CpuScaler scaler(Target(0.1));
  scaler.Scaled(20, 2, kNow);
  CHECK(scaler.Decide(All(2, 1), 2, kNow + 1s).wish == 20);
}

TEST_CASE("more that came for another reason counts against the limit, but takes nothing back") {
  CpuScaler scaler(Target(0.5));
  scaler.Scaled(2, 12, kNow);
  CHECK(scaler.Decide(All(12, 1), 12, kNow + 1s).wish == 12);
}

}  // namespace
}  // namespace ctr::policy::cpu_scaler_test
