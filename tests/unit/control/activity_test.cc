#include "tests/unit/control/world.h"

namespace ctr {
namespace {

using namespace std::chrono_literals;

const std::string kHooks = std::string(kWebClass) + R"(
[hooks]
on_start = ["/bin/started"]
on_stop = ["/bin/stopped"]
on_error = ["/bin/failed"]
)";

std::vector<std::string> Called(const World& world) {
  std::vector<std::string> names;
  for (const HookCall& call : world.hooks) names.push_back(call.env.at("CTR_EVENT"));
  return names;
}

TEST_CASE("an exec session keeps its instance awake, and a stop does not wait for it") {
  World world;
  world.Apply(kWebClass);
  std::shared_ptr<Instance> alice = world.Create("web", "alice");
  auto visit = std::make_unique<StatusOr<Visit>>(
      world.Await(world.supervisor->Enter(alice, world.Deadline(), "ctr exec")));
  REQUIRE(visit->ok());
  CHECK((*visit)->container_id() == world.runtime.Only().container.id);
  world.Advance(10min);
  CHECK(alice->state() == State::kHealthy);
  CHECK_FALSE(alice->SleepsAt().has_value());
  visit.reset();
  world.Advance(9s);
  CHECK(alice->state() == State::kHealthy);
  world.Advance(1s);
  CHECK(alice->observed().reason == StopReason::kSlept);

  visit = std::make_unique<StatusOr<Visit>>(
      world.Await(world.supervisor->Enter(alice, world.Deadline(), "ctr exec")));
  CHECK(world.Await(world.supervisor->Stop(alice, {}, true, world.Deadline(), "test")).ok());
}

TEST_CASE("an idle connection does not keep its instance awake, its bytes do") {
  World world;
  world.Apply(kWebClass);
  std::shared_ptr<Instance> alice = world.Started("web", "alice");
  StatusOr<Passage> passage = world.Await(world.Wake("alice"));
  REQUIRE(passage.ok());
  alice->slot()->BeginTunnel();
  alice->slot()->TouchTunnel(world.clock.Now());
  world.Advance(9s);
  alice->slot()->TouchTunnel(world.clock.Now());
  world.Advance(9s);
  CHECK(alice->state() == State::kHealthy);
  world.Advance(1s);
  CHECK(alice->state() == State::kStopped);  // without waiting for the connection to end
  CHECK(alice->observed().reason == StopReason::kSlept);
  // What is left of the connection sees that its start is over, and is none of the next one's.
  CHECK(alice->slot()->endpoint() == nullptr);
  alice->slot()->EndTunnel();
  *passage = Passage();
  CHECK(alice->slot()->in_flight() == 0);
}

TEST_CASE("a request beside a connection keeps the instance awake") {
  World world;
  world.Apply(kWebClass);
  std::shared_ptr<Instance> alice = world.Started("web", "alice");
  StatusOr<Passage> connection = world.Await(world.Wake("alice"));
  StatusOr<Passage> request = world.Await(world.Wake("alice"));
  REQUIRE((connection.ok() && request.ok()));
  alice->slot()->BeginTunnel();
  world.Advance(1h);
  CHECK(alice->state() == State::kHealthy);
  *request = Passage();
  alice->Nudge();
  world.Advance(10s);
  CHECK(alice->state() == State::kStopped);
  alice->slot()->EndTunnel();
}

TEST_CASE("a stop waits for a connection on which bytes move, until drain") {
  World world;
  world.Apply(std::string(kWebClass) + "drain = \"5s\"\n");
  std::shared_ptr<Instance> alice = world.Started("web", "alice");
  StatusOr<Passage> passage = world.Await(world.Wake("alice"));
  alice->slot()->BeginTunnel();
  alice->RequestStop({});
  for (int i = 0; i < 4; ++i) {
    alice->slot()->TouchTunnel(world.clock.Now());
    world.Advance(900ms);
    CHECK(world.runtime.Only().signals.empty());
  }
  world.Advance(200ms);
  CHECK(alice->state() == State::kStopped);
  alice->slot()->EndTunnel();
}

TEST_CASE("with busy_cpu an instance that computes does not sleep, and one that rests does") {
  World world;
  world.Apply(std::string(kWebClass) + "busy_cpu = 0.05\n");
  std::shared_ptr<Instance> alice = world.Started("web", "alice");
  for (int second = 0; second < 60; ++second) {
    world.runtime.Only().usage.cpu_time += 51ms;
    world.Advance(1s);
  }
  CHECK(alice->state() == State::kHealthy);
  for (int second = 0; second < 15 && alice->state() == State::kHealthy; ++second) {
    world.runtime.Only().usage.cpu_time += 49ms;
    world.Advance(1s);
  }
  CHECK(alice->state() == State::kStopped);
  CHECK(alice->observed().reason == StopReason::kSlept);
}

TEST_CASE("hooks run at start, stop and failure, with the instance in their environment") {
  World world;
  world.Apply(kHooks);
  std::shared_ptr<Instance> alice = world.Started("web", "alice");
  world.Settle();
  REQUIRE(world.hooks.size() == 1);
  CHECK(world.hooks[0].command == std::vector<std::string>{"/bin/started"});
  CHECK(world.hooks[0].env.at("CTR_CLASS") == "web");
  CHECK(world.hooks[0].env.at("CTR_ID") == "alice");
  CHECK_FALSE(world.hooks[0].env.contains("CTR_EXIT_CODE"));
  CHECK(world.Await(world.supervisor->Stop(alice, {}, true, world.Deadline(), "test")).ok());
  world.Settle();
  CHECK(world.Await(world.Wake("alice")).ok());
  world.runtime.Exit(world.runtime.Only().container.id, {.code = 9});
  world.Settle();
  CHECK(Called(world) == std::vector<std::string>{"on_start", "on_stop", "on_start", "on_error"});
  CHECK(world.hooks[1].env.at("CTR_EXIT_CODE") == "143");
  CHECK(world.hooks[3].env.at("CTR_EXIT_CODE") == "9");
}

TEST_CASE("a hook that fails is an event, and holds up nothing") {
  World world;
  world.Apply(kHooks);
  world.hook_result = absl::AbortedError("/bin/started exited with 1: no such user");
  world.hook_time = 5s;
  std::shared_ptr<Instance> alice = world.Started("web", "alice");
  CHECK(alice->state() == State::kHealthy);
  world.Advance(5s);
  CHECK(world.store->events.back().type == event::kHookFailed);
  CHECK(world.store->events.back().message == "on_start: /bin/started exited with 1: no such user");
}

TEST_CASE("the hooks of an instance run one after the other, in their order") {
  World world;
  world.Apply(kHooks);
  world.hook_time = 5s;
  std::shared_ptr<Instance> alice = world.Started("web", "alice");
  CHECK(world.Await(world.supervisor->Stop(alice, {}, true, world.Deadline(), "test")).ok());
  CHECK(world.hooks.size() == 1);
  world.Advance(5s);
  CHECK(Called(world) == std::vector<std::string>{"on_start", "on_stop"});
}

TEST_CASE("on_activity_expired that fails keeps it awake, and is asked again after sleep_after") {
  World world;
  world.Apply(std::string(kWebClass) + "[hooks]\non_activity_expired = [\"/bin/ask\"]\n");
  world.hook_result = absl::AbortedError("/bin/ask exited with 1");
  std::shared_ptr<Instance> alice = world.Started("web", "alice");
  world.Advance(10s);
  CHECK(world.hooks.size() == 1);
  CHECK(alice->state() == State::kHealthy);
  world.Advance(9s);
  CHECK(world.hooks.size() == 1);
  world.hook_result = absl::OkStatus();
  world.Advance(1s);
  CHECK(world.hooks.size() == 2);
  CHECK(alice->observed().reason == StopReason::kSlept);
}

TEST_CASE("a request while on_activity_expired runs keeps the instance awake") {
  World world;
  world.Apply(std::string(kWebClass) + "[hooks]\non_activity_expired = [\"/bin/ask\"]\n");
  world.hook_time = 3s;
  std::shared_ptr<Instance> alice = world.Started("web", "alice");
  world.Advance(10s);
  CHECK(world.hooks.size() == 1);
  CHECK(world.Await(world.Wake("alice")).ok());
  world.Advance(5s);
  CHECK(alice->state() == State::kHealthy);
}

TEST_CASE("a stop does not wait for on_activity_expired") {
  World world;
  world.Apply(std::string(kWebClass) + "[hooks]\non_activity_expired = [\"/bin/ask\"]\n");
  world.hook_time = 1h;
  std::shared_ptr<Instance> alice = world.Started("web", "alice");
  world.Advance(10s);
  CHECK(world.hooks.size() == 1);
  CHECK(world.Await(world.supervisor->Stop(alice, {}, true, world.Deadline(), "test")).ok());
}

TEST_CASE("events tell of a life: who woke it, and why it ended") {
  World world;
  world.Apply(kWebClass);
  world.Create("web", "alice");
  CHECK(world.Await(world.Wake("alice")).ok());
  world.Advance(10s);
  std::vector<std::string> types;
  for (const Event& event : world.store->events) types.push_back(event.type);
  CHECK(types == std::vector<std::string>{"class_applied", "created", "wake", "starting", "running",
                                          "healthy", "stopping", "slept"});
  CHECK(world.store->events[2].cause == "GET / from 127.0.0.1");
  CHECK(world.store->events[6].cause == "no activity for 10s");
  CHECK(world.store->events[7].exit_code == 143);
}

TEST_CASE("a stopped instance holds no network namespace") {
  World world;
  world.Apply(kWebClass);
  std::shared_ptr<Instance> alice = world.Started("web", "alice");
  CHECK(alice->slot()->endpoint() != nullptr);
  world.Advance(10s);
  CHECK(alice->slot()->endpoint() == nullptr);
}

}  // namespace
}  // namespace ctr
