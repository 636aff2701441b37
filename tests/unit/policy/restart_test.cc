#include "agent/policy/restart.h"

#include <doctest/doctest.h>

namespace ctr::policy {
namespace {

using namespace std::chrono_literals;

RestartPlan Decide(RestartPolicy restart, int failures, bool failed, Duration ran = 1s) {
  return DecideRestart({restart, failures, failed, ran});
}

TEST_CASE("on-failure starts a failed instance again, and leaves one that ended well") {
  CHECK(Decide(RestartPolicy::kOnFailure, 0, true).restart);
  CHECK_FALSE(Decide(RestartPolicy::kOnFailure, 0, false).restart);
  CHECK(Decide(RestartPolicy::kOnFailure, 3, false).failures == 0);
}

TEST_CASE("always starts it again whatever its status") {
  CHECK(Decide(RestartPolicy::kAlways, 0, false).restart);
  CHECK(Decide(RestartPolicy::kAlways, 0, true).restart);
}

TEST_CASE("never does not start it again, but a request has to wait for the backoff, too") {
  const RestartPlan plan = Decide(RestartPolicy::kNever, 4, true);
  CHECK_FALSE(plan.restart);
  CHECK(plan.failures == 5);
  CHECK(plan.backoff == 1600ms);
}

TEST_CASE("the backoff doubles from 100 ms to a minute") {
  Duration expected = 100ms;
  for (int failures = 0; failures < 30; ++failures) {
    CHECK(Decide(RestartPolicy::kAlways, failures, true).backoff ==
          std::min<Duration>(expected, 1min));
    if (expected < 1min) expected *= 2;
  }
}

TEST_CASE("one that ran for ten seconds begins anew") {
  CHECK(Decide(RestartPolicy::kOnFailure, 9, true, 10s).failures == 1);
  CHECK(Decide(RestartPolicy::kOnFailure, 9, true, 10s - 1ns).failures == 10);
}

TEST_CASE("on-failure gives up after ten restarts in a row, always never does") {
  int restarts = 0;
  RestartPlan plan;
  do {
    plan = Decide(RestartPolicy::kOnFailure, plan.failures, true);
    restarts += plan.restart;
  } while (plan.restart);
  CHECK(restarts == 10);
  CHECK(plan.gave_up);
  CHECK(plan.backoff == 1min);
  CHECK(Decide(RestartPolicy::kAlways, 1'000'000, true).restart);
}

}  // namespace
}  // namespace ctr::policy
