#include "agent/policy/lifecycle.h"

#include <doctest/doctest.h>

#include "agent/policy/routing.h"

namespace ctr::policy::lifecycle_test {
namespace {

using namespace std::chrono_literals;

const MonoTime kNow = MonoTime(1h);

LifecycleView Healthy() {
  LifecycleView view;
  view.state = State::kHealthy;
  view.idle = {.sleep_after = 10s, .busy = false, .last_activity = kNow};
  return view;
}

LifecycleView Running() {
  LifecycleView view;
  view.state = State::kRunning;
  view.started_at = kNow;
  view.start_deadline = kNow + 20s;
  return view;
}

TEST_CASE("an idle instance sleeps exactly sleep_after past its last activity") {
  CHECK(DecideLifecycle(Healthy(), kNow).check_at == kNow + 10s);
  CHECK(DecideLifecycle(Healthy(), kNow + 10s - 1ns).step == Step::kNone);
  CHECK(DecideLifecycle(Healthy(), kNow + 10s).step == Step::kSleep);
}

TEST_CASE("an instance with an open request does not sleep, however long it takes") {
  LifecycleView view = Healthy();
  view.idle.busy = true;
  LifecyclePlan plan = DecideLifecycle(view, kNow + 24h);
  CHECK(plan.step == Step::kNone);
  CHECK(plan.check_at == kNow + 24h + 10s);
}

TEST_CASE("an idle connection keeps it awake until tcp_idle past its last byte, not longer") {
  LifecycleView view = Healthy();
  view.idle.last_tunnel_activity = kNow;
  view.idle.tcp_idle = 30s;
  CHECK(DecideLifecycle(view, kNow + 30s - 1ns).check_at == kNow + 30s);
  CHECK(DecideLifecycle(view, kNow + 30s).step == Step::kSleep);
  // Its bytes were activity like any other.
  view.idle.tcp_idle = 1s;
  CHECK(DecideLifecycle(view, kNow + 1s).check_at == kNow + 10s);
  CHECK(DecideLifecycle(view, kNow + 10s).step == Step::kSleep);
}

TEST_CASE("sleep_after = never has no next look") {
  LifecycleView view = Healthy();
  view.idle.sleep_after.reset();
  LifecyclePlan plan = DecideLifecycle(view, kNow + 1000h);
  CHECK(plan.step == Step::kNone);
  CHECK_FALSE(plan.check_at.has_value());
}

TEST_CASE(
    "a running instance becomes healthy when its ports listen, and is looked at within 5 ms") {
  LifecycleView view = Running();
  CHECK(*DecideLifecycle(view, kNow).check_at <= kNow + 5ms);
  CHECK(*DecideLifecycle(view, kNow + 15s).check_at <= kNow + 15s + 5ms);
  view.listening = true;
  CHECK(DecideLifecycle(view, kNow + 30s).step == Step::kMarkHealthy);
}

TEST_CASE(
    "a start that is not healthy by its deadline fails, and is looked at no later than then") {
  LifecycleView view = Running();
  CHECK(DecideLifecycle(view, kNow + 20s - 1ms).check_at == kNow + 20s);
  CHECK(DecideLifecycle(view, kNow + 20s).step == Step::kFailStart);
}

TEST_CASE("a stopped instance starts only when somebody wants it") {
  LifecycleView view;
  CHECK(DecideLifecycle(view, kNow).step == Step::kNone);
  view.stop_wanted = true;
  CHECK(DecideLifecycle(view, kNow).step == Step::kNone);
  view.start_wanted = true;
  CHECK(DecideLifecycle(view, kNow).step == Step::kStart);
}

TEST_CASE("destroying comes before everything else") {
  LifecycleView view = Healthy();
  view.stop_wanted = view.exited = view.destroy_wanted = view.start_wanted = true;
  CHECK(DecideLifecycle(view, kNow).step == Step::kKill);
  view.state = State::kStopped;
  CHECK(DecideLifecycle(view, kNow).step == Step::kForget);
}

TEST_CASE("an exit that was not asked for is recorded before a stop is tried") {
  LifecycleView view = Healthy();
  view.exited = view.stop_wanted = true;
  CHECK(DecideLifecycle(view, kNow).step == Step::kReap);
}

TEST_CASE("the random pick covers its range evenly") {
  CHECK(PickUniform(0, 3) == 0);
  CHECK(PickUniform(~uint64_t{0}, 3) == 2);
  CHECK(PickUniform(uint64_t{1} << 63, 2) == 1);
}

}  // namespace
}  // namespace ctr::policy::lifecycle_test
