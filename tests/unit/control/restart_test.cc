#include "tests/unit/control/world.h"

namespace ctr {
namespace {

using namespace std::chrono_literals;

const std::string kAlways = std::string(kWebClass) + "restart = \"always\"\n";

int CountOf(const World& world, const std::string& type) {
  return static_cast<int>(std::count_if(world.store->events.begin(), world.store->events.end(),
                                        [&](const Event& event) { return event.type == type; }));
}

Event LastOf(const World& world, const std::string& type) {
  for (auto it = world.store->events.rbegin(); it != world.store->events.rend(); ++it) {
    if (it->type == type) return *it;
  }
  return {};
}

TEST_CASE("an instance whose process fails is started again after a backoff, without a request") {
  World world;
  world.Apply(kWebClass);
  std::shared_ptr<Instance> alice = world.Started("web", "alice");
  world.runtime.Exit(world.runtime.Only().container.id, {.code = 3});
  world.Settle();
  CHECK(alice->state() == State::kStopped);
  CHECK(alice->observed().reason == StopReason::kExited);
  CHECK(alice->observed().exit_code == 3);
  CHECK(alice->observed().next_start.has_value());
  world.Advance(99ms);
  CHECK(alice->state() == State::kStopped);
  world.Advance(1ms);
  CHECK(alice->state() == State::kHealthy);
  CHECK(alice->observed().generation == 2);
  CHECK(LastOf(world, event::kWake).cause == "its restart policy");
}

TEST_CASE("an exec that is refused does not take back the restart that is due") {
  World world;
  world.Apply(std::string(kWebClass) + "manual_start = true\n");
  std::shared_ptr<Instance> alice = world.Started("web", "alice");
  world.runtime.Exit(world.runtime.Only().container.id, {.code = 3});
  world.Settle();
  StatusOr<Visit> refused =
      world.Await(world.supervisor->Enter(alice, world.Deadline(), "ctr exec"));
  CHECK(ErrorCodeOf(refused.status()) == code::kManualStart);
  world.Advance(100ms);
  CHECK(alice->state() == State::kHealthy);
}

TEST_CASE("an exec or a copy does not run a job again that has ended") {
  World world;
  world.Apply("name = \"job\"\nimage = \"demo:latest\"\n");
  std::shared_ptr<Instance> job = world.Started("job", "j");
  CHECK(world.Await(world.supervisor->Enter(job, world.Deadline(), "ctr exec")).ok());
  world.runtime.Exit(world.runtime.Only().container.id, {.code = 0});
  world.Settle();
  StatusOr<Visit> refused = world.Await(world.supervisor->Enter(job, world.Deadline(), "ctr exec"));
  CHECK(ErrorCodeOf(refused.status()) == code::kConflict);
  CHECK(world.runtime.creates == 1);
}

TEST_CASE("an exit with status 0 is no failure, but always restarts it") {
  World world;
  world.Apply(kWebClass);
  std::shared_ptr<Instance> alice = world.Started("web", "alice");
  world.runtime.Exit(world.runtime.Only().container.id, {.code = 0});
  world.Advance(1h);
  CHECK(alice->state() == State::kStopped);

  World other;
  other.Apply(kAlways);
  std::shared_ptr<Instance> bob = other.Started("web", "bob");
  other.runtime.Exit(other.runtime.Only().container.id, {.code = 0});
  other.Advance(1s);
  CHECK(bob->state() == State::kHealthy);
}

TEST_CASE("a stop is answered although a request starts the instance again at once") {
  World world;
  world.Apply(kWebClass);
  std::shared_ptr<Instance> alice = world.Started("web", "alice");
  world.runtime.exit_on_sigterm = false;
  auto stop = world.Spawn(world.supervisor->Stop(alice, {}, true, world.Deadline(), "test"));
  world.Settle();
  auto wake = world.Spawn(world.Wake("alice"));
  world.Settle();
  world.runtime.Exit(world.runtime.Only().container.id, {.code = 0});
  world.Settle();
  REQUIRE(stop->has_value());
  CHECK((*stop)->ok());
  REQUIRE(wake->has_value());
  CHECK((*wake)->ok());
  CHECK(alice->observed().generation == 2);
}

TEST_CASE("a start that a stop overtakes while the runtime is away is no failure") {
  World world;
  world.Apply(kWebClass);
  std::shared_ptr<Instance> alice = world.Create("web", "alice");
  world.runtime.create_error = absl::UnavailableError("containerd can't be reached");
  auto start = world.Spawn(world.supervisor->Start(alice, true, world.Deadline(), "test"));
  world.Settle();
  CHECK(world.Await(world.supervisor->Stop(alice, {}, false, world.Deadline(), "test")).ok());
  world.Advance(100ms);
  CHECK(CountOf(world, event::kStartFailed) == 0);
  CHECK(alice->observed().reason != StopReason::kStartFailed);
  world.runtime.create_error = absl::OkStatus();
  world.Advance(100ms);
  REQUIRE(start->has_value());  // who waits for it gets the next start
  CHECK((*start)->ok());
}

TEST_CASE("an instance that was stopped by request is not restarted") {
  World world;
  world.Apply(kAlways);
  std::shared_ptr<Instance> alice = world.Started("web", "alice");
  CHECK(world.Await(world.supervisor->Stop(alice, {}, true, world.Deadline(), "test")).ok());
  world.Advance(1h);
  CHECK(alice->state() == State::kStopped);
  CHECK(alice->observed().reason == StopReason::kRequested);
  CHECK(world.runtime.creates == 1);
}

TEST_CASE(
    "a crash loop starts ever more seldom, and requests meanwhile are told when to try again") {
  World world;
  world.Apply(kAlways);
  std::shared_ptr<Instance> alice = world.Create("web", "alice");
  world.runtime.listen_at_start = false;
  world.runtime.exit_at_start = ContainerExit{.code = 1};
  StatusOr<Passage> first = world.Await(world.Wake("alice"));
  CHECK(ErrorCodeOf(first.status()) == code::kStartFailed);
  CHECK(RetryAfterOf(first.status()) == Duration(100ms));
  for (int i = 0; i < 3600; ++i) world.Advance(1s);
  // About 10 until the backoff is a minute, and then one a minute.
  CHECK(world.runtime.creates > 60);
  CHECK(world.runtime.creates < 75);
  CHECK(alice->observed().failures == world.runtime.creates);

  const int creates = world.runtime.creates;
  StatusOr<Passage> refused = world.Await(world.Wake("alice"));
  CHECK(ErrorCodeOf(refused.status()) == code::kStartFailed);
  CHECK(refused.status().message().find("crash loop") != std::string::npos);
  REQUIRE(RetryAfterOf(refused.status()).has_value());
  CHECK(*RetryAfterOf(refused.status()) <= 1min);
  CHECK(world.runtime.creates == creates);

  // Mended, and asked for by name: at once.
  world.runtime.exit_at_start.reset();
  world.runtime.listen_at_start = true;
  CHECK(world.Await(world.supervisor->Start(alice, true, world.Deadline(), "test")).ok());
  CHECK(alice->observed().failures == 0);
}

TEST_CASE("a request that comes while a failed start is torn down does not hasten the next one") {
  World world;
  world.Apply(kAlways);
  std::shared_ptr<Instance> alice = world.Create("web", "alice");
  world.runtime.start_error = absl::FailedPreconditionError("no such entrypoint");
  CHECK_FALSE(world.Await(world.Wake("alice")).ok());
  world.runtime.hold_remove = true;
  world.Advance(100ms);
  CHECK(alice->state() == State::kStopping);
  CHECK(alice->observed().failures == 2);
  auto request = world.Spawn(world.Wake("alice"));
  world.Settle();
  CHECK_FALSE(request->has_value());
  world.runtime.Release();
  world.Settle();
  REQUIRE(request->has_value());
  CHECK((*request)->status().message().find("crash loop") != std::string::npos);
  CHECK(world.runtime.creates == 2);
}

TEST_CASE("who waits for a start that fails is told before all is torn down") {
  World world;
  world.Apply(kWebClass);
  std::shared_ptr<Instance> alice = world.Create("web", "alice");
  world.runtime.start_error = absl::FailedPreconditionError("no such entrypoint");
  world.runtime.hold_remove = true;
  CHECK_FALSE(world.Await(world.Wake("alice")).ok());
  CHECK(alice->state() == State::kStopping);
}

TEST_CASE("on-failure gives up after ten restarts, and a request tries once more") {
  World world;
  world.Apply(kWebClass);
  std::shared_ptr<Instance> alice = world.Create("web", "alice");
  world.runtime.start_error = absl::FailedPreconditionError("no such entrypoint");
  CHECK_FALSE(world.Await(world.Wake("alice")).ok());
  world.Advance(10min);
  for (int i = 0; i < 100; ++i) world.Advance(10s);
  CHECK(world.runtime.creates == 11);
  CHECK(CountOf(world, event::kGaveUp) == 1);
  CHECK_FALSE(alice->observed().next_start.has_value());
  world.runtime.start_error = absl::OkStatus();
  CHECK(world.Await(world.Wake("alice")).ok());
}

TEST_CASE("a stop ends a crash loop") {
  World world;
  world.Apply(kAlways);
  std::shared_ptr<Instance> alice = world.Create("web", "alice");
  world.runtime.start_error = absl::FailedPreconditionError("no such entrypoint");
  CHECK_FALSE(world.Await(world.Wake("alice")).ok());
  CHECK(world.Await(world.supervisor->Stop(alice, {}, true, world.Deadline(), "test")).ok());
  const int creates = world.runtime.creates;
  world.Advance(1h);
  CHECK(world.runtime.creates == creates);
  CHECK_FALSE(world.store->instances.at({"web", "alice"}).observed.next_start.has_value());
}

TEST_CASE("a restart that was due is made by the next agent") {
  auto store = std::make_shared<FakeStore>();
  {
    World world(store, nullptr);
    world.Apply(kAlways);
    std::shared_ptr<Instance> alice = world.Started("web", "alice");
    world.runtime.Exit(world.runtime.Only().container.id, {.code = 1});
    world.Settle();
    CHECK(alice->state() == State::kStopped);
  }
  World world(store, nullptr);
  world.Advance(1s);
  CHECK(world.supervisor->instances().at({"web", "alice"})->state() == State::kHealthy);
}

TEST_CASE(
    "an instance whose container vanished with the host is started again, unless it was to stop") {
  auto store = std::make_shared<FakeStore>();
  {
    World world(store, nullptr);
    world.Apply(kWebClass);
    world.Started("web", "alice");
    std::shared_ptr<Instance> bob = world.Started("web", "bob");
    store->instances[{"web", "bob"}].desired = Desired::kStopped;
  }
  World world(store, nullptr);
  CHECK(LastOf(world, event::kLost).instance.id == "alice");
  world.Advance(1s);
  CHECK(world.supervisor->instances().at({"web", "alice"})->state() == State::kHealthy);
  std::shared_ptr<Instance> bob = world.supervisor->instances().at({"web", "bob"});
  CHECK(bob->state() == State::kStopped);
  CHECK(bob->observed().reason == StopReason::kRequested);
}

TEST_CASE("one that is killed for want of memory says so, also before its port listens") {
  World world;
  world.Apply(kWebClass);
  std::shared_ptr<Instance> alice = world.Create("web", "alice");
  world.runtime.listen_at_start = false;
  world.runtime.exit_at_start = ContainerExit{.code = 137, .oom_killed = true};
  StatusOr<Passage> refused = world.Await(world.Wake("alice"));
  CHECK(ErrorCodeOf(refused.status()) == code::kStartFailed);
  CHECK(refused.status().message().find("for want of memory") != std::string::npos);
  CHECK(alice->observed().reason == StopReason::kOomKilled);
  CHECK(CountOf(world, event::kOomKilled) == 1);
}

TEST_CASE("a start that the runtime never answers is torn down at start_timeout") {
  World world;
  world.Apply(kWebClass);
  std::shared_ptr<Instance> alice = world.Create("web", "alice");
  world.runtime.hold_create = true;
  auto request = world.Spawn(world.Wake("alice"));
  world.Advance(19s);
  CHECK_FALSE(request->has_value());
  world.Advance(1s);
  REQUIRE(request->has_value());
  CHECK(ErrorCodeOf((*request)->status()) == code::kStartTimeout);
  CHECK(alice->state() == State::kStopped);
  world.runtime.Release();
  CHECK(world.Await(world.Wake("alice")).ok());
  CHECK(world.runtime.containers.size() == 1);
}

TEST_CASE("a start waits for a runtime that is away, as long as start_timeout allows") {
  World world;
  world.Apply(kWebClass);
  world.Create("web", "alice");
  world.runtime.create_error = absl::UnavailableError("containerd is away");
  auto request = world.Spawn(world.Wake("alice"));
  for (int i = 0; i < 50; ++i) world.Advance(100ms);
  CHECK_FALSE(request->has_value());
  world.runtime.create_error = absl::OkStatus();
  world.Advance(100ms);
  REQUIRE(request->has_value());
  CHECK((*request)->ok());

  world.Create("web", "bob");
  world.runtime.create_error = absl::UnavailableError("containerd is away");
  auto refused = world.Spawn(world.Wake("bob"));
  for (int i = 0; i < 200; ++i) world.Advance(100ms);
  REQUIRE(refused->has_value());
  CHECK(ErrorCodeOf((*refused)->status()) == code::kStartFailed);
}

TEST_CASE("an exit that no row tells of is recorded by the next agent, and its start counted") {
  auto store = std::make_shared<FakeStore>();
  World before(store, nullptr);
  before.Apply(kWebClass);
  before.Started("web", "alice");
  // The agent was killed before the start was written behind.
  store->instances[{"web", "alice"}].observed = Observed();
  before.runtime.Exit(before.runtime.Only().container.id, {.code = 5});
  World after(store, &before.runtime);
  after.Settle();
  std::shared_ptr<Instance> alice = after.supervisor->instances().at({"web", "alice"});
  CHECK(alice->observed().reason == StopReason::kExited);
  CHECK(alice->observed().exit_code == 5);
  CHECK(alice->observed().generation == 1);
}

TEST_CASE("while a container can't be removed and may live, no other one of its ID starts") {
  World world;
  world.Apply(kWebClass);
  world.runtime.listen_at_start = false;
  std::shared_ptr<Instance> alice = world.Create("web", "alice");
  auto request = world.Spawn(world.Wake("alice"));
  world.runtime.remove_error = absl::UnavailableError("containerd is away");
  world.Advance(20s);
  REQUIRE(request->has_value());
  CHECK_FALSE((*request)->ok());
  world.runtime.listen_at_start = true;
  world.runtime.start_error = absl::OkStatus();
  auto second = world.Spawn(world.Wake("alice"));
  world.Advance(5s);
  CHECK(world.runtime.creates == 1);
  world.runtime.remove_error = absl::OkStatus();
  world.Advance(1s);
  REQUIRE(second->has_value());
  CHECK((*second)->ok());
  CHECK(world.runtime.containers.size() == 1);
}

TEST_CASE("a destroy is answered when the container and the kept disk are gone") {
  World world;
  world.Apply(std::string(kWebClass) + "disk = \"keep\"\n");
  std::shared_ptr<Instance> alice = world.Started("web", "alice");
  CHECK(world.runtime.disks.size() == 1);
  CHECK(world.Await(world.supervisor->Stop(alice, {}, true, world.Deadline(), "test")).ok());
  CHECK(world.runtime.disks.size() == 1);
  CHECK(world.Await(world.Wake("alice")).ok());
  world.runtime.remove_error = absl::UnavailableError("containerd is away");
  auto destroyed = world.Spawn(world.supervisor->Destroy(alice, world.Deadline(), "test"));
  world.Advance(3s);
  CHECK_FALSE(destroyed->has_value());
  CHECK(world.store->instances.size() == 1);
  world.runtime.remove_error = absl::OkStatus();
  world.Advance(1s);
  REQUIRE(destroyed->has_value());
  CHECK((*destroyed)->ok());
  CHECK(world.runtime.containers.empty());
  CHECK(world.runtime.disks.empty());
  CHECK(world.store->instances.empty());
}

}  // namespace
}  // namespace ctr
