#include "tests/unit/control/world.h"

namespace ctr {
namespace {

using namespace std::chrono_literals;

TEST_CASE("two hundred requests to one sleeping ID make one start, and all are let in") {
  World world;
  world.Apply(kWebClass);
  std::shared_ptr<Instance> alice = world.Create("web", "alice");
  world.runtime.hold_create = true;
  std::vector<std::shared_ptr<std::optional<StatusOr<Passage>>>> requests;
  for (int i = 0; i < 200; ++i) requests.push_back(world.Spawn(world.Wake("alice")));
  world.Settle();
  CHECK(alice->state() == State::kStarting);
  world.runtime.Release();
  world.Settle();
  CHECK(world.runtime.creates == 1);
  for (auto& request : requests) {
    REQUIRE(request->has_value());
    CHECK((*request)->ok());
  }
  CHECK(alice->slot()->in_flight() == 200);
  requests.clear();
  CHECK(alice->slot()->in_flight() == 0);
}

TEST_CASE("requests that wait are bounded by their bytes, and what leaves makes room") {
  World world;
  world.Apply(kWebClass);
  world.Create("web", "alice");
  constexpr size_t kMiB = 1 << 20;
  auto first = world.Spawn(world.Wake("alice", 10 * kMiB));
  auto second = world.Spawn(world.Wake("alice", 6 * kMiB));
  CHECK(ErrorCodeOf(world.Await(world.Wake("alice", 1)).status()) == code::kQueueFull);
  world.Settle();
  REQUIRE((first->has_value() && second->has_value()));
  CHECK((*first)->ok());
  CHECK((*second)->ok());
  CHECK(world.Await(world.Wake("alice", 16 * kMiB)).ok());
}

TEST_CASE("an idle instance sleeps after sleep_after, and the next request starts it again") {
  World world;
  world.Apply(kWebClass);
  std::shared_ptr<Instance> alice = world.Started("web", "alice");
  world.Advance(9999ms);
  CHECK(alice->state() == State::kHealthy);
  world.Advance(1ms);
  CHECK(alice->state() == State::kStopped);
  CHECK(alice->observed().reason == StopReason::kSlept);
  CHECK(world.runtime.containers.empty());

  CHECK(world.Await(world.Wake("alice")).ok());
  CHECK(alice->state() == State::kHealthy);
  CHECK(alice->observed().generation == 2);
}

TEST_CASE("an in-flight request keeps its instance awake, and its end restarts the idle timer") {
  World world;
  world.Apply(kWebClass);
  std::shared_ptr<Instance> alice = world.Create("web", "alice");
  {
    StatusOr<Passage> request = world.Await(world.Wake("alice"));
    REQUIRE(request.ok());
    world.Advance(10min);
    CHECK(alice->state() == State::kHealthy);
  }
  world.Advance(9s);
  CHECK(alice->state() == State::kHealthy);
  world.Advance(1s);
  CHECK(alice->state() == State::kStopped);
}

TEST_CASE("renew restarts the idle timer of a running instance, and is refused for a stopped one") {
  World world;
  world.Apply(kWebClass);
  std::shared_ptr<Instance> alice = world.Started("web", "alice");
  world.Advance(9s);
  CHECK(alice->Renew("test").ok());
  world.Advance(9s);
  CHECK(alice->state() == State::kHealthy);
  world.Advance(1s);
  CHECK(alice->state() == State::kStopped);
  CHECK(absl::IsFailedPrecondition(alice->Renew("test")));
}

TEST_CASE("a request that arrives while the instance stops waits, and then starts it again") {
  World world;
  world.Apply(kWebClass);
  world.runtime.exit_on_sigterm = false;
  std::shared_ptr<Instance> alice = world.Started("web", "alice");
  auto stop = world.Spawn(world.supervisor->Stop(alice, {}, true, world.Deadline(), "test"));
  world.Settle();
  CHECK(alice->state() == State::kStopping);
  auto request = world.Spawn(world.Wake("alice"));
  world.Settle();
  CHECK_FALSE(request->has_value());
  world.runtime.Exit(world.runtime.Only().container.id, {.code = 0});
  world.Settle();
  REQUIRE(request->has_value());
  CHECK((*request)->ok());
  CHECK(alice->observed().generation == 2);
}

TEST_CASE("a stop signals, and kills after the grace") {
  World world;
  world.Apply(kWebClass);
  world.runtime.exit_on_sigterm = false;
  std::shared_ptr<Instance> alice = world.Started("web", "alice");
  auto stop = world.Spawn(world.supervisor->Stop(alice, {}, true, world.Deadline(), "test"));
  world.Advance(9s);
  CHECK(world.runtime.Only().signals == std::vector<int>{15});
  CHECK_FALSE(stop->has_value());
  world.Advance(1s);
  REQUIRE(stop->has_value());
  CHECK((*stop)->ok());
  CHECK(alice->observed().reason == StopReason::kRequested);
  CHECK(alice->observed().exit_code == 137);
  CHECK(world.runtime.containers.empty());
}

TEST_CASE("a stop lets what is in flight finish before it signals") {
  World world;
  world.Apply(kWebClass);
  std::shared_ptr<Instance> alice = world.Create("web", "alice");
  auto request = std::make_unique<StatusOr<Passage>>(world.Await(world.Wake("alice")));
  auto stop = world.Spawn(world.supervisor->Stop(alice, {}, true, world.Deadline(), "test"));
  world.Advance(5s);
  CHECK(world.runtime.Only().signals.empty());
  CHECK(alice->slot()->Enter() == Slot::Entry::kClosed);
  request.reset();
  world.Advance(10ms);
  CHECK(stop->has_value());
  CHECK(alice->observed().exit_code == 143);
}

TEST_CASE("manual_start: get and requests start nothing, start does") {
  World world;
  world.Apply(std::string(kWebClass) + "manual_start = true\n");
  std::shared_ptr<Instance> alice = world.Create("web", "alice");
  StatusOr<Passage> refused = world.Await(world.Wake("alice"));
  CHECK(ErrorCodeOf(refused.status()) == code::kManualStart);
  CHECK(ErrorCodeOf(alice->CheckMayStart()) == code::kManualStart);
  CHECK(world.runtime.creates == 0);
  CHECK(world.Await(world.supervisor->Start(alice, true, world.Deadline(), "test")).ok());
  CHECK(world.Await(world.Wake("alice")).ok());
}

TEST_CASE("max_instances refuses a further start by name, and a free place is taken again") {
  World world;
  world.Apply(std::string(kWebClass) + "max_instances = 1\n[route]\ninstances = 1\n");
  std::shared_ptr<Instance> alice = world.Started("web", "alice");
  std::shared_ptr<Instance> bob = world.Create("web", "bob");
  Status refused = world.Await(world.supervisor->Start(bob, true, world.Deadline(), "test"));
  CHECK(ErrorCodeOf(refused) == code::kMaxInstances);
  CHECK(bob->observed().reason == StopReason::kNeverStarted);
  CHECK(world.Await(world.supervisor->Stop(alice, {}, true, world.Deadline(), "test")).ok());
  CHECK(world.Await(world.supervisor->Start(bob, true, world.Deadline(), "test")).ok());
}

TEST_CASE("a port that never opens fails the start at start_timeout and leaves nothing behind") {
  World world;
  world.Apply(kWebClass);
  world.runtime.listen_at_start = false;
  std::shared_ptr<Instance> alice = world.Create("web", "alice");
  auto start = world.Spawn(world.supervisor->Start(alice, true, world.Deadline(), "test"));
  world.Advance(19s);
  CHECK(alice->state() == State::kRunning);
  world.Advance(1s);
  REQUIRE(start->has_value());
  CHECK(ErrorCodeOf(**start) == code::kStartTimeout);
  CHECK(alice->observed().reason == StopReason::kStartFailed);
  CHECK(world.runtime.containers.empty());
}

TEST_CASE(
    "a port that listens lets requests in, though the runtime has not answered the start yet") {
  World world;
  world.Apply(kWebClass);
  std::shared_ptr<Instance> alice = world.Create("web", "alice");
  world.runtime.hold_start = true;
  auto request = world.Spawn(world.Wake("alice"));
  world.Advance(2ms);
  REQUIRE(request->has_value());
  CHECK((*request)->ok());
  CHECK(alice->state() == State::kHealthy);
  world.runtime.Release();
  world.Settle();
  CHECK(alice->state() == State::kHealthy);
}

TEST_CASE("a process that exits before its port opens is a failed start, with its exit code") {
  World world;
  world.Apply(kWebClass);
  world.runtime.listen_at_start = false;
  world.runtime.exit_at_start = ContainerExit{.code = 3};
  std::shared_ptr<Instance> alice = world.Create("web", "alice");
  Status started = world.Await(world.supervisor->Start(alice, true, world.Deadline(), "test"));
  CHECK(ErrorCodeOf(started) == code::kStartFailed);
  CHECK(alice->observed().exit_code == 3);
  CHECK(world.runtime.containers.empty());
  CHECK(world.runtime.starts == 1);
}

TEST_CASE("a start that the runtime refuses is tried once for all who wait") {
  World world;
  world.Apply(kWebClass);
  world.Create("web", "alice");
  world.runtime.create_error = absl::FailedPreconditionError("no such entrypoint");
  auto first = world.Spawn(world.Wake("alice"));
  auto second = world.Spawn(world.Wake("alice"));
  world.Settle();
  REQUIRE(first->has_value());
  REQUIRE(second->has_value());
  CHECK(ErrorCodeOf((*first)->status()) == code::kStartFailed);
  CHECK(world.runtime.creates == 1);
}

TEST_CASE("a process that ends by itself is recorded as exited, and the next request starts it") {
  World world;
  world.Apply(kWebClass);
  std::shared_ptr<Instance> alice = world.Started("web", "alice");
  world.runtime.Exit(world.runtime.Only().container.id, {.code = 7});
  world.Settle();
  CHECK(alice->state() == State::kStopped);
  CHECK(alice->observed().reason == StopReason::kExited);
  CHECK(alice->observed().exit_code == 7);
  CHECK(alice->slot()->closed());
  CHECK(world.Await(world.Wake("alice")).ok());
}

TEST_CASE("destroy kills at once and forgets the ID, whose name can be made anew") {
  World world;
  world.Apply(kWebClass);
  world.runtime.exit_on_sigterm = false;
  std::shared_ptr<Instance> alice = world.Started("web", "alice");
  const uint32_t address = alice->record().address;
  CHECK(world.Await(world.supervisor->Destroy(alice, world.Deadline(), "test")).ok());
  CHECK(world.runtime.containers.empty());
  CHECK(world.store->instances.empty());
  CHECK(ErrorCodeOf(world.Await(world.Wake("alice")).status()) == code::kUnknownInstance);
  CHECK(world.Create("web", "alice")->record().address != address);
}

TEST_CASE("a get of an ID that is being destroyed makes it anew") {
  World world;
  world.Apply(kWebClass);
  std::shared_ptr<Instance> alice = world.Started("web", "alice");
  alice->RequestDestroy("test");
  CHECK(world.Started("web", "alice") != alice);
}

TEST_CASE("a restart is a new container of the class as it is now") {
  World world;
  world.Apply(kWebClass);
  std::shared_ptr<Instance> alice = world.Started("web", "alice");
  const std::string revision = alice->observed().revision;
  world.Apply(std::string(kWebClass) + "env = { A = \"1\" }\n");
  CHECK(alice->observed().revision == revision);
  CHECK(world.Await(world.supervisor->Restart(alice, true, world.Deadline(), "test")).ok());
  CHECK(alice->observed().revision != revision);
  CHECK(world.runtime.Only().spec.env.at("A") == "1");
  CHECK(alice->observed().generation == 2);
}

std::string Ports(const World& world, const std::string& id) {
  const uint32_t address = (*world.supervisor->Find({"web", id}))->record().address;
  std::string ports;
  for (const auto& [steered, port] : world.steered) {
    if (steered == address) ports += std::to_string(port) + " ";
  }
  return ports;
}

constexpr char kMovedClass[] = R"(
name = "web"
image = "demo:latest"
default_port = 9090
env = { PORT = "9090" }
)";

TEST_CASE("a start that waits its turn while its class changes is one of the class as it is then") {
  World world;
  world.Apply(kWebClass);
  world.runtime.hold_create = true;
  std::vector<std::shared_ptr<Instance>> all;
  for (int i = 0; i < 6; ++i) {
    all.push_back(world.Create("web", "a" + std::to_string(i)));
    CHECK(world.Await(world.supervisor->Start(all.back(), false, world.Deadline(), "")).ok());
  }
  world.Apply(kMovedClass);
  world.runtime.Release();
  world.Settle();
  REQUIRE(world.runtime.containers.size() == 6);
  for (const auto& [id, box] : world.runtime.containers) {
    const bool is_old = !box.spec.env.contains("PORT");
    const Instance& instance = **world.supervisor->Find(box.spec.name);
    CAPTURE(box.spec.name.id);
    CHECK(instance.Outdated() == is_old);
    CHECK(box.spec.revision == instance.observed().revision);
    CHECK((box.spec.record.find("9090") == std::string::npos) == is_old);
    CHECK(Ports(world, box.spec.name.id) == (is_old ? "8080 9090 " : "9090 "));
  }
}

TEST_CASE("the ports that a start was begun with are open from then on, until it ends") {
  World world;
  world.Apply(kWebClass);
  world.runtime.hold_create = true;
  std::shared_ptr<Instance> alice = world.Create("web", "alice");
  CHECK(world.Await(world.supervisor->Start(alice, false, world.Deadline(), "")).ok());
  world.Apply("name = \"web\"\nimage = \"demo:latest\"\n");
  CHECK(Ports(world, "alice") == "8080 ");
  CHECK(world.publisher.Get()->classes.at("web")->older.contains("alice"));
  world.runtime.Release();
  world.Settle();
  REQUIRE(alice->state() == State::kHealthy);
  CHECK(Ports(world, "alice") == "8080 ");

  World later(world.store, &world.runtime);
  CHECK(Ports(later, "alice") == "8080 ");
  CHECK(later.publisher.Get()->classes.at("web")->older.contains("alice"));

  CHECK(world.Await(world.supervisor->Stop(alice, {}, true, world.Deadline(), "")).ok());
  CHECK(Ports(world, "alice").empty());
  CHECK(world.publisher.Get()->classes.at("web")->older.empty());
}

TEST_CASE("a restart that has no place in its class is refused before anything is stopped") {
  World world;
  world.Apply(kWebClass);
  std::shared_ptr<Instance> alice = world.Started("web", "alice");
  std::shared_ptr<Instance> bob = world.Started("web", "bob");
  world.Apply(std::string(kWebClass) + "max_instances = 1\n[route]\ninstances = 1\n");
  for (const bool wait : {true, false}) {
    CHECK(ErrorCodeOf(world.Await(world.supervisor->Restart(alice, wait, world.Deadline(), ""))) ==
          code::kMaxInstances);
  }
  CHECK(alice->state() == State::kHealthy);
  CHECK(alice->observed().generation == 1);
  CHECK(world.Await(world.supervisor->Stop(bob, {}, true, world.Deadline(), "")).ok());
  CHECK(world.Await(world.supervisor->Restart(alice, true, world.Deadline(), "")).ok());
}

TEST_CASE("a job is healthy when its process runs, and its exit is its result") {
  World world;
  world.Apply("name = \"job\"\nimage = \"demo:latest\"\n");
  std::shared_ptr<Instance> one = world.Started("job", "one");
  world.Advance(24h);
  CHECK(one->state() == State::kHealthy);
  world.runtime.Exit(world.runtime.Only().container.id, {.code = 0});
  world.Settle();
  CHECK(one->observed().reason == StopReason::kExited);
  CHECK(one->observed().exit_code == 0);
}

TEST_CASE("no more than four containers are made at once, and all get their turn") {
  World world;
  world.Apply(std::string(kWebClass) + "max_instances = 50\n");
  world.runtime.hold_create = true;
  std::vector<std::shared_ptr<std::optional<Status>>> starts;
  for (int i = 0; i < 20; ++i) {
    auto instance = world.Create("web", "i" + std::to_string(i));
    starts.push_back(
        world.Spawn(world.supervisor->Start(instance, true, world.Deadline(), "test")));
  }
  world.Settle();
  CHECK(world.runtime.creates == 4);
  world.runtime.Release();
  world.Settle();
  for (auto& start : starts) {
    REQUIRE(start->has_value());
    CHECK((*start)->ok());
  }
}

}  // namespace
}  // namespace ctr
