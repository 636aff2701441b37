// Requests to a class whose policy is `nearest`, and how many instances they have.
#include "agent/control/class_pool.h"

#include <cmath>
#include <numbers>
#include <random>

#include <doctest/doctest.h>

#include "tests/unit/control/world.h"

namespace ctr {
namespace {

using namespace std::chrono_literals;

constexpr char kNearest[] = R"(
name = "web"
image = "demo:latest"
default_port = 8080
sleep_after = "10s"
max_concurrency = 2
)";

std::string Nearest(const std::string& more = "") {
  return std::string(kNearest) + "[route]\npolicy = \"nearest\"\ninstances = 3\n" + more;
}
std::string Scaled(const std::string& settings = "") {
  return std::string(kNearest) + "[autoscale]\n" + settings;
}

int Live(const World& world) {
  int live = 0;
  for (const auto& [name, instance] : world.supervisor->instances()) {
    live += instance->state() != State::kStopped;
  }
  return live;
}

State StateOf(const World& world, int index) {
  auto found = world.supervisor->instances().find({"web", RoutedId(index)});
  return found == world.supervisor->instances().end() ? State::kStopped : found->second->state();
}

TEST_CASE("the first request to a class wakes one instance, and the next ones find it") {
  World world;
  world.Apply(Nearest());
  CHECK(Live(world) == 0);
  {
    StatusOr<Passage> first = world.Await(world.Route());
    REQUIRE(first.ok());
    CHECK(first->slot()->name().id == "instance-0");
    StatusOr<Passage> second = world.Await(world.Route());
    REQUIRE(second.ok());
    CHECK(second->slot()->name().id == "instance-0");
  }
  CHECK(Live(world) == 1);
}

TEST_CASE("one more wakes only when those that are awake have been full for a while") {
  World world;
  world.Apply(Nearest());
  std::optional<StatusOr<Passage>> first = world.Await(world.Route());
  StatusOr<Passage> second = world.Await(world.Route());
  auto third = world.Spawn(world.Route());
  world.Settle();
  CHECK_FALSE(third->has_value());
  CHECK(Live(world) == 1);
  // A place that comes free at once is taken.
  first.reset();
  world.Advance(10ms);
  REQUIRE(third->has_value());
  CHECK((**third)->slot()->name().id == "instance-0");
  auto fourth = world.Spawn(world.Route());
  world.Advance(100ms);
  REQUIRE(fourth->has_value());
  REQUIRE((*fourth)->ok());
  CHECK((**fourth)->slot()->name().id == "instance-1");
}

TEST_CASE("requests that wait for a place are let in first come, first served") {
  World world;
  world.Apply(std::string(kNearest) + "[route]\npolicy = \"nearest\"\ninstances = 1\n");
  std::optional<StatusOr<Passage>> one = world.Await(world.Route());
  StatusOr<Passage> two = world.Await(world.Route());
  auto third = world.Spawn(world.Route());
  auto fourth = world.Spawn(world.Route());
  world.Advance(1s);
  CHECK_FALSE(third->has_value());
  one.reset();
  world.Advance(10ms);
  CHECK(third->has_value());
  CHECK_FALSE(fourth->has_value());
}

TEST_CASE(
    "a place that comes free is taken by who waits, and who comes later is held behind them") {
  World world;
  world.Apply(std::string(kNearest) + "[route]\npolicy = \"nearest\"\ninstances = 1\n");
  std::optional<StatusOr<Passage>> one = world.Await(world.Route());
  StatusOr<Passage> two = world.Await(world.Route());
  const std::shared_ptr<Slot> slot = two->slot();
  CHECK_FALSE(slot->queued());
  auto third = world.Spawn(world.Route());
  world.Settle();
  CHECK(slot->queued());
  one.reset();
  world.Settle();
  CHECK(third->has_value());
  CHECK_FALSE(slot->queued());
}

TEST_CASE("a class that is removed leaves no queue behind") {
  World world;
  world.Apply(std::string(kNearest) + "[route]\npolicy = \"nearest\"\ninstances = 1\n");
  StatusOr<Passage> one = world.Await(world.Route());
  StatusOr<Passage> two = world.Await(world.Route());
  auto third = world.Spawn(world.Route());
  world.Settle();
  world.Apply(kNearest);  // routed at random
  world.Settle();
  CHECK_FALSE(two->slot()->queued());
}

TEST_CASE("who waits longer than it may is told that none was ready") {
  World world;
  world.Apply(std::string(kNearest) + "[route]\npolicy = \"nearest\"\ninstances = 1\n");
  StatusOr<Passage> one = world.Await(world.Route());
  StatusOr<Passage> two = world.Await(world.Route());
  auto third = world.Spawn(world.Route());
  world.Advance(59s);
  CHECK_FALSE(third->has_value());
  world.Advance(2s);
  REQUIRE(third->has_value());
  CHECK(ErrorCodeOf((*third)->status()) == code::kStartTimeout);
}

TEST_CASE("a class that cannot start fails who waits with the reason") {
  World world;
  world.Apply(Nearest());
  world.runtime.start_error = absl::FailedPreconditionError("no such program");
  StatusOr<Passage> passage = world.Await(world.Route());
  CHECK(ErrorCodeOf(passage.status()) == code::kStartFailed);
  CHECK(passage.status().message().find("no such program") != std::string::npos);
}

TEST_CASE("with autoscale a class goes from zero to what its queue needs, and back to zero") {
  World world;
  world.Apply(Scaled("target_concurrency = 1\nmax = 4\n"));
  CHECK(Live(world) == 0);
  std::vector<std::shared_ptr<std::optional<StatusOr<Passage>>>> requests;
  for (int i = 0; i < 4; ++i) requests.push_back(world.Spawn(world.Route()));
  world.Settle();
  world.Advance(100ms);
  for (const auto& request : requests) {
    REQUIRE(request->has_value());
    CHECK((*request)->ok());
  }
  CHECK(Live(world) == 4);
  // No instance falls asleep by itself while requests are in flight, or before the class is idle.
  world.Advance(15s);
  CHECK(Live(world) == 4);
  requests.clear();
  for (int i = 0; i < 9; ++i) world.Advance(1s);
  CHECK(Live(world) > 0);
  for (int i = 0; i < 3; ++i) world.Advance(1s);
  CHECK(Live(world) == 0);
  const auto& instance = world.supervisor->instances().begin()->second;
  CHECK(instance->observed().reason == StopReason::kSlept);
  CHECK(world.Await(world.Route()).ok());
}

TEST_CASE("through an hour of load that comes and goes no request loses its instance") {
  struct Request {
    std::shared_ptr<std::optional<StatusOr<Passage>>> passage;
    uint64_t generation = 0;
    int steps = 0;  // that it has yet to take
  };
  World world;
  world.Apply(Scaled("target_concurrency = 1\nmax = 6\nwindow = \"6s\"\n"));
  std::minstd_rand dice(1);
  std::vector<Request> requests;
  size_t failed = 0, cut = 0, done = 0;
  int fewest = 6, most = 0;
  constexpr Duration kStep = 250ms;
  for (Duration at = 0s; at < 1h; at += kStep) {
    const double phase = std::chrono::duration<double>(at).count() / 120 * 2 * std::numbers::pi;
    while (static_cast<double>(requests.size()) < 8 * std::sin(phase)) {
      requests.push_back({world.Spawn(world.Route()), 0, 1 + static_cast<int>(dice() % 40)});
    }
    world.Advance(kStep);
    for (Request& request : requests) {
      if (!request.passage->has_value()) continue;
      if (!(*request.passage)->ok()) {
        ++failed;
        request.steps = 0;
        continue;
      }
      const Passage& passage = ***request.passage;
      const auto& instance = world.supervisor->instances().at(passage.slot()->name());
      if (request.generation == 0) request.generation = instance->observed().generation;
      const bool there =
          instance->container() && instance->observed().generation == request.generation;
      if (!there) ++cut;
      if (!there || --request.steps <= 0) {
        request.steps = 0;
        ++done;
      }
    }
    std::erase_if(requests, [](const Request& request) {
      return request.steps == 0 && request.passage->has_value();
    });
    fewest = std::min(fewest, Live(world));
    most = std::max(most, Live(world));
  }
  CHECK(failed == 0);
  CHECK(cut == 0);
  CHECK(done > 1000);
  CHECK(fewest == 0);
  CHECK(most == 6);
}

TEST_CASE("one that is woken by its ID after a long rest has as long as its start takes") {
  World world;
  world.Apply(Scaled() + "[readiness]\ntcp = true\n");
  world.Advance(1min);
  std::shared_ptr<Instance> instance = world.Create("web", "instance-0");
  world.check_result = policy::Check::Result::kFailed;
  auto woken = world.Spawn(world.Wake("instance-0"));
  for (int i = 0; i < 15; ++i) world.Advance(1s);  // longer than sleep_after
  CHECK_FALSE(woken->has_value());
  world.check_result = policy::Check::Result::kPassed;
  for (int i = 0; i < 2; ++i) world.Advance(1s);
  REQUIRE(woken->has_value());
  CHECK((*woken)->ok());
  CHECK(instance->observed().generation == 1);
}

TEST_CASE("what instances served before their class scaled by requests a second is no traffic") {
  World world;
  world.Apply(kNearest);
  for (int i = 0; i < 3; ++i) world.Create("web", RoutedId(i));
  for (int i = 0; i < 600; ++i) CHECK(world.Await(world.Wake(RoutedId(i % 3))).ok());
  CHECK(Live(world) == 3);
  world.Apply(Scaled("target_rps = 10\nmax = 20\n"));
  for (int i = 0; i < 3; ++i) world.Advance(1s);
  CHECK(Live(world) == 3);
}

TEST_CASE("of two that are idle the one with an exec session in it stays") {
  World world;
  world.Apply(Scaled("target_concurrency = 1\nmax = 2\nwindow = \"6s\"\n"));
  std::optional<StatusOr<Passage>> first = world.Await(world.Route());
  std::optional<StatusOr<Passage>> second = world.Await(world.Route());
  std::optional<StatusOr<Passage>> third = world.Await(world.Route());
  for (int i = 0; i < 2; ++i) world.Advance(1s);
  REQUIRE(StateOf(world, 1) == State::kHealthy);
  Visit visit(world.supervisor->instances().at({"web", "instance-1"}));
  for (auto* request : {&first, &second, &third}) request->reset();
  for (int i = 0; i < 60; ++i) world.Advance(1s);
  CHECK(StateOf(world, 0) == State::kStopped);
  CHECK(StateOf(world, 1) == State::kHealthy);
}

TEST_CASE("min instances are there unasked, and no more than max") {
  World world;
  world.Apply(Scaled("min = 2\nmax = 3\n"));
  for (int i = 0; i < 3; ++i) world.Advance(1s);
  CHECK(Live(world) == 2);
  for (int i = 0; i < 30; ++i) world.Advance(1s);
  CHECK(Live(world) == 2);
  world.Apply(Scaled("min = 3\nmax = 3\n"));
  for (int i = 0; i < 2; ++i) world.Advance(1s);
  CHECK(Live(world) == 3);
}

TEST_CASE("what routing owns sleeps by itself again once autoscale is off") {
  World world;
  world.Apply(Scaled("min = 1\n"));
  for (int i = 0; i < 2; ++i) world.Advance(1s);
  CHECK(Live(world) == 1);
  CHECK(world.Await(world.supervisor->SetAutoscale("web", false, {}, "test")).ok());
  world.Advance(11s);
  CHECK(StateOf(world, 0) == State::kStopped);
  CHECK(world.supervisor->FindPool("web") == nullptr);
}

TEST_CASE("another ID of the class is not the autoscaler's") {
  World world;
  world.Apply(Scaled("max = 2\n"));
  world.Started("web", "alice");
  CHECK(world.Await(world.Route())->slot()->name().id == "instance-0");
  world.Advance(11s);
  CHECK(world.supervisor->instances().at({"web", "alice"})->state() == State::kStopped);
}

TEST_CASE("one whose readiness check fails is running, gets no request, and comes back") {
  World world;
  world.Apply(Scaled("min = 2\nmax = 2\n") + "[readiness]\nhttp = \"/healthz\"\nfailures = 2\n");
  for (int i = 0; i < 3; ++i) world.Advance(1s);
  const auto& instance = world.supervisor->instances().at({"web", "instance-0"});
  CHECK(instance->shown_state() == State::kHealthy);
  CHECK(world.checks > 0);
  world.check_result = policy::Check::Result::kFailed;
  for (int i = 0; i < 4; ++i) world.Advance(1s);
  CHECK(instance->shown_state() == State::kRunning);
  auto waits = world.Spawn(world.Route());
  world.Advance(10ms);
  CHECK_FALSE(waits->has_value());
  // By its ID it is reached all the same.
  CHECK(world.Await(world.Wake("instance-0")).ok());
  world.check_result = policy::Check::Result::kPassed;
  for (int i = 0; i < 2; ++i) world.Advance(1s);
  CHECK(instance->shown_state() == State::kHealthy);
  REQUIRE(waits->has_value());
  CHECK((*waits)->ok());
}

TEST_CASE("chance does not send a request to one whose readiness check fails") {
  World world;
  world.Apply(std::string(kNearest) + "[readiness]\nhttp = \"/healthz\"\nfailures = 2\n");
  world.Started("web", "instance-0");
  world.check_result = policy::Check::Result::kFailed;
  for (int i = 0; i < 4; ++i) world.Advance(1s);
  world.check_result = policy::Check::Result::kPassed;
  const auto& failing = world.supervisor->instances().at({"web", "instance-0"});
  REQUIRE(failing->shown_state() == State::kRunning);
  for (int i = 0; i < 30; ++i) {
    StatusOr<Passage> passage = world.Await(world.Route());
    REQUIRE(passage.ok());
    CHECK(passage->slot()->name().id != "instance-0");
  }
}

TEST_CASE("beside one whose readiness check fails another is started for who waits") {
  World world;
  world.Apply(Scaled("max = 2\n") + "[readiness]\nhttp = \"/healthz\"\nfailures = 2\n");
  CHECK(world.Await(world.Route()).ok());
  world.check_result = policy::Check::Result::kFailed;
  for (int i = 0; i < 4; ++i) world.Advance(1s);
  auto waits = world.Spawn(world.Route());
  for (int i = 0; i < 2; ++i) world.Advance(1s);
  CHECK(StateOf(world, 1) != State::kStopped);
  CHECK_FALSE(waits->has_value());
}

TEST_CASE("a start is over when its readiness check passes") {
  World world;
  world.check_result = policy::Check::Result::kFailed;
  world.Apply(std::string(kNearest) + "[readiness]\ntcp = true\n");
  auto woken = world.Spawn(world.Wake("alice"));
  world.Create("web", "alice");
  woken = world.Spawn(world.Wake("alice"));
  for (int i = 0; i < 10; ++i) world.Advance(100ms);
  CHECK_FALSE(woken->has_value());
  world.check_result = policy::Check::Result::kPassed;
  for (int i = 0; i < 10; ++i) world.Advance(100ms);
  REQUIRE(woken->has_value());
  CHECK((*woken)->ok());
}

TEST_CASE("a start whose readiness check never passes says so") {
  World world;
  world.check_result = policy::Check::Result::kFailed;
  world.Apply(std::string(kNearest) + "[readiness]\ntcp = true\n");
  world.Create("web", "alice");
  auto woken = world.Spawn(world.Wake("alice"));
  for (int i = 0; i < 21; ++i) world.Advance(1s);
  REQUIRE(woken->has_value());
  CHECK((*woken)->status().message().find("times: GET :8080/healthz answered 404; see") !=
        std::string::npos);
}

TEST_CASE("who asks to be routed waits as long as a request does") {
  World world;
  world.check_result = policy::Check::Result::kFailed;
  world.Apply(Scaled() + "[readiness]\ntcp = true\n");
  auto waits = world.Spawn(world.supervisor->Route("web", 0, MonoTime::max(), "test"));
  for (int i = 0; i < 40; ++i) world.Advance(1s);
  REQUIRE(waits->has_value());
  CHECK_FALSE((*waits)->ok());
}

TEST_CASE("an instance is restarted after so many failed checks, if the class says so") {
  World world;
  world.Apply(std::string(kNearest) + "[readiness]\ntcp = true\nrestart_after = 3\n");
  std::shared_ptr<Instance> alice = world.Started("web", "alice");
  StatusOr<Passage> stays = world.Await(world.Wake("alice"));
  stays = absl::UnavailableError("");
  world.check_result = policy::Check::Result::kFailed;
  for (int i = 0; i < 3; ++i) world.Advance(1s);
  world.check_result = policy::Check::Result::kPassed;
  for (int i = 0; i < 3; ++i) world.Advance(1s);
  CHECK(alice->observed().generation == 2);
}

}  // namespace
}  // namespace ctr
