#include <sys/resource.h>

#include <algorithm>
#include <fstream>

#include "tests/unit/control/world.h"

namespace ctr {
namespace {

using namespace std::chrono_literals;

TEST_CASE("what a commit refuses did not happen") {
  World world;
  world.Apply(kWebClass);
  world.store->error = absl::ResourceExhaustedError("disk full");
  StatusOr<std::shared_ptr<Instance>> bob =
      world.Await(world.supervisor->GetOrCreate({"web", "bob"}, {}, world.Deadline(), "test"));
  CHECK(absl::IsResourceExhausted(bob.status()));
  CHECK(world.supervisor->instances().empty());
  CHECK(world.steered.size() == 1);  // the class's own address
  world.store->error = absl::OkStatus();
  world.Advance(std::chrono::seconds(5));  // the disk is looked at again
  CHECK(world.Create("web", "bob") != nullptr);
}

TEST_CASE("waking a known ID needs no write that can fail") {
  World world;
  world.Apply(kWebClass);
  world.Create("web", "alice");
  world.store->error = absl::ResourceExhaustedError("disk full");
  CHECK(world.Await(world.Wake("alice")).ok());
}

TEST_CASE("an address is not given again until the range wraps") {
  CHECK(NextAddress({0x7F4D0000, 28}, 0, {}) == 0x7F4D0002);
  CHECK(NextAddress({0x7F4D0000, 28}, 0x7F4D0002, {}) == 0x7F4D0003);
  CHECK(NextAddress({0x7F4D0000, 28}, 0x7F4D000E, {0x7F4D0002}) == 0x7F4D0003);
  std::unordered_set<uint32_t> all;
  for (uint32_t i = 0; i < 16; ++i) all.insert(0x7F4D0000 + i);
  CHECK_FALSE(NextAddress({0x7F4D0000, 28}, 0, all).has_value());
}

TEST_CASE("a later life of the agent takes over what runs and serves it") {
  auto store = std::make_shared<FakeStore>();
  World first(store, nullptr);
  first.Apply(kWebClass);
  std::shared_ptr<Instance> alice = first.Started("web", "alice");
  const uint32_t address = alice->record().address;

  World second(store, &first.runtime);
  second.Settle();
  std::shared_ptr<Instance> found = *second.supervisor->Find({"web", "alice"});
  CHECK(found->state() == State::kHealthy);
  CHECK(found->record().address == address);
  CHECK(second.runtime.creates == 0);
  CHECK(second.Await(second.Wake("alice")).ok());
}

TEST_CASE(
    "what is taken over has been healthy for as long as it was, not since the agent's start") {
  auto store = std::make_shared<FakeStore>();
  World first(store, nullptr);
  first.Apply(kWebClass);
  const WallTime since = first.Started("web", "alice")->observed().since;
  first.Settle();

  World second(store, &first.runtime);
  second.Advance(5s);
  std::shared_ptr<Instance> found = *second.supervisor->Find({"web", "alice"});
  CHECK(found->state() == State::kHealthy);
  CHECK(found->observed().since == since);
  CHECK(second.Await(second.supervisor->Restart(found, true, second.Deadline(), "test")).ok());
  CHECK(found->observed().since == second.clock.Wall());
}

constexpr char kChecked[] = R"(
name = "web"
image = "demo:latest"
default_port = 8080
sleep_after = "1m"
start_timeout = "5s"
[readiness]
http = "/healthz"
failures = 2
)";

TEST_CASE("what fails its readiness check is taken over as it is, and runs on") {
  auto store = std::make_shared<FakeStore>();
  World first(store, nullptr);
  first.Apply(kChecked);
  first.Started("web", "alice");
  first.check_result = policy::Check::Result::kFailed;
  for (int i = 0; i < 4; ++i) first.Advance(1s);
  CHECK((*first.supervisor->Find({"web", "alice"}))->shown_state() == State::kRunning);

  World second(store, &first.runtime, policy::Check::Result::kFailed);
  std::shared_ptr<Instance> alice = *second.supervisor->Find({"web", "alice"});
  for (int i = 0; i < 20; ++i) second.Advance(1s);  // longer than start_timeout
  CHECK(alice->state() == State::kHealthy);
  CHECK(alice->shown_state() == State::kRunning);
  CHECK(alice->observed().generation == 1);
  CHECK(second.Await(second.Wake("alice")).ok());  // by its ID, as before
  second.check_result = policy::Check::Result::kPassed;
  for (int i = 0; i < 2; ++i) second.Advance(1s);
  CHECK(alice->shown_state() == State::kHealthy);
  for (int i = 0; i < 61; ++i) second.Advance(1s);
  CHECK(alice->observed().reason == StopReason::kSlept);
}

TEST_CASE("a start that an earlier agent began has its start_timeout, and no more") {
  auto store = std::make_shared<FakeStore>();
  World first(store, nullptr, policy::Check::Result::kFailed);
  first.Apply(kChecked);
  first.Create("web", "alice");
  auto woken = first.Spawn(first.Wake("alice"));
  first.Advance(1s);

  World second(store, &first.runtime, policy::Check::Result::kFailed);
  std::shared_ptr<Instance> alice = *second.supervisor->Find({"web", "alice"});
  for (int i = 0; i < 5; ++i) second.Advance(1s);
  CHECK(alice->observed().reason == StopReason::kStartFailed);
}

TEST_CASE("what is taken over goes on with what it was started with, not with its changed class") {
  auto store = std::make_shared<FakeStore>();
  World first(store, nullptr);
  first.Apply(kWebClass);
  first.Started("web", "alice");
  first.Apply(absl::StrCat(
      kWebClass, "required_ports = [9999]\nstart_timeout = \"1s\"\n[[port]]\nport = 9999\n"));

  World second(store, &first.runtime);
  std::shared_ptr<Instance> alice = *second.supervisor->Find({"web", "alice"});
  for (int i = 0; i < 9; ++i) second.Advance(1s);
  CHECK(alice->state() == State::kHealthy);
  CHECK(alice->config().required_ports == std::vector<uint16_t>{8080});
  for (int i = 0; i < 2; ++i) second.Advance(1s);
  CHECK(alice->observed().reason == StopReason::kSlept);
  CHECK(alice->config().required_ports == std::vector<uint16_t>{9999});
}

TEST_CASE("a new ID does not get the output of an earlier one that the state no longer knows") {
  World world;
  world.Apply(kWebClass);
  const std::filesystem::path logs = world.folder / "web";
  std::filesystem::create_directories(logs / "alice");
  std::filesystem::create_directories(logs / "bob");
  std::ofstream(logs / "alice" / "0000000001.log") << "secret";
  world.Create("web", "alice");
  CHECK_FALSE(std::filesystem::exists(logs / "alice" / "0000000001.log"));

  CHECK(world.Await(world.supervisor->RemoveClass("web", true, world.Deadline(), "test")).ok());
  CHECK_FALSE(std::filesystem::exists(logs));
}

TEST_CASE("an exit while the agent was away is recorded with its code") {
  auto store = std::make_shared<FakeStore>();
  World first(store, nullptr);
  first.Apply(kWebClass);
  first.Started("web", "alice");
  first.runtime.Only().exit = ContainerExit{.code = 9};
  first.runtime.Only().container.phase = ContainerPhase::kExited;

  World second(store, &first.runtime);
  second.Settle();
  std::shared_ptr<Instance> found = *second.supervisor->Find({"web", "alice"});
  CHECK(found->state() == State::kStopped);
  CHECK(found->observed().reason == StopReason::kExited);
  CHECK(found->observed().exit_code == 9);
  CHECK(second.runtime.containers.empty());
}

TEST_CASE(
    "a container that was created but not started, and one that nobody knows, are removed at the "
    "start") {
  auto store = std::make_shared<FakeStore>();
  World first(store, nullptr);
  first.Apply(kWebClass);
  first.Started("web", "alice");
  FakeRuntime::Entry half = first.runtime.Only();
  half.container.id = "half";
  half.container.generation = 2;
  half.container.phase = ContainerPhase::kCreated;
  first.runtime.containers["half"] = half;
  FakeRuntime::Entry stranger = first.runtime.Only();
  stranger.container.id = "stranger";
  stranger.container.name = {"web", "nobody"};
  first.runtime.containers["stranger"] = stranger;

  World second(store, &first.runtime);
  second.Settle();
  CHECK(second.runtime.containers.size() == 1);
  auto alice = *second.supervisor->Find({"web", "alice"});
  CHECK(alice->state() == State::kHealthy);
  // It is told as the start that it is of; the next one's number is higher than any there was.
  CHECK(alice->observed().generation == 1);
  CHECK(second.Await(second.supervisor->Stop(alice, {}, true, second.Deadline(), "test")).ok());
  CHECK(second.Started("web", "alice")->observed().generation == 3);
}

TEST_CASE("a stop and a destroy that the agent did not live to finish are finished by the next") {
  auto store = std::make_shared<FakeStore>();
  World first(store, nullptr);
  first.Apply(kWebClass);
  first.runtime.exit_on_sigterm = false;
  auto stopping = first.Started("web", "alice");
  auto dying = first.Started("web", "bob");
  first.Spawn(first.supervisor->Stop(stopping, {}, true, first.Deadline(), "test"));
  first.Settle();
  store->instances.at({"web", "bob"}).desired = Desired::kDestroyed;

  World second(store, &first.runtime);
  second.Settle();
  CHECK((*second.supervisor->Find({"web", "alice"}))->observed().reason == StopReason::kRequested);
  CHECK_FALSE(second.supervisor->Find({"web", "bob"}).ok());
  CHECK(second.runtime.containers.empty());
}

TEST_CASE(
    "settings given with an ID are kept for later starts, and refused while it runs with others") {
  World world;
  world.Apply(kWebClass);
  auto alice = world.Await(world.supervisor->GetOrCreate(
      {"web", "alice"}, {.env = {{"A", "1"}}, .entrypoint = {}}, world.Deadline(), "test"));
  REQUIRE(alice.ok());
  REQUIRE(world.Await(world.supervisor->Start(*alice, true, world.Deadline(), "test")).ok());
  CHECK(world.runtime.Only().spec.env.at("A") == "1");
  CHECK(world.runtime.Only().spec.env.at("CTR_ID") == "alice");
  auto same = world.Await(world.supervisor->GetOrCreate(
      {"web", "alice"}, {.env = {{"A", "1"}}, .entrypoint = {}}, world.Deadline(), "test"));
  CHECK(same.ok());
  auto other = world.Await(world.supervisor->GetOrCreate(
      {"web", "alice"}, {.env = {{"A", "2"}}, .entrypoint = {}}, world.Deadline(), "test"));
  CHECK(ErrorCodeOf(other.status()) == code::kConflict);
}

TEST_CASE(
    "a class is created, unchanged, configured; it can't be removed while it has instances, but by "
    "force") {
  World world;
  const auto apply = [&](const std::string& source) {
    return world.Await(world.supervisor->ApplyClass(source, "f", "test"))->result;
  };
  CHECK(apply(kWebClass) == ApplyResult::kCreated);
  CHECK(apply(kWebClass) == ApplyResult::kUnchanged);
  CHECK(apply(std::string(kWebClass) + "nofile = 2048\n") == ApplyResult::kConfigured);
  world.Started("web", "alice");
  Status refused =
      world.Await(world.supervisor->RemoveClass("web", false, world.Deadline(), "test"));
  CHECK(ErrorCodeOf(refused) == code::kInUse);
  CHECK(world.Await(world.supervisor->RemoveClass("web", true, world.Deadline(), "test")).ok());
  CHECK(world.store->classes.empty());
  CHECK(world.runtime.containers.empty());
  CHECK(world.steered.empty());
}

TEST_CASE("a class is removed by force with several instances, which end one before the other") {
  World world;
  world.Apply(kWebClass);
  world.Started("web", "alice");
  for (const char* id : {"bob", "carol"}) world.Started("web", id);
  CHECK(world.Await(world.supervisor->RemoveClass("web", true, world.Deadline(), "test")).ok());
  CHECK(world.runtime.containers.empty());
}

TEST_CASE("a class whose image is missing is refused at apply") {
  World world;
  StatusOr<AppliedClass> result = world.Await(world.supervisor->ApplyClass(
      "name = \"x\"\nimage = \"nope\"\ndefault_port = 1\n", "x.toml", "test"));
  CHECK(absl::IsNotFound(result.status()));
}

TEST_CASE("a class whose image is missing gets it from its registry, unless it never pulls") {
  World world;
  world.runtime.registry["docker.io/library/far:latest"] = "sha256:" + std::string(64, 'a');
  const std::string far = "name = \"far\"\nimage = \"far\"\ndefault_port = 8080\n";
  Status refused =
      world.Await(world.supervisor->ApplyClass(far + "pull_policy = \"never\"\n", "f", "test"))
          .status();
  CHECK(ErrorCodeOf(refused) == code::kUnknownImage);
  CHECK(world.runtime.pulls == 0);
  world.Apply(far);
  CHECK(world.runtime.pulls == 1);
  world.Apply(far + "nofile = 2048\n");
  CHECK(world.runtime.pulls == 1);
  CHECK(world.supervisor->ImagesInUse().count("docker.io/library/far:latest") == 1);
}

TEST_CASE("a class that always pulls is pinned to a digest, also by changes that are no apply") {
  World world;
  const std::string name = "docker.io/library/far";
  const std::string first = "sha256:" + std::string(64, 'a');
  const std::string second = "sha256:" + std::string(64, 'b');
  world.runtime.registry[name + ":latest"] = first;
  const std::string source =
      "name = \"far\"\nimage = \"far\"\ndefault_port = 8080\npull_policy = \"always\"\n";
  world.Apply(source);
  world.runtime.registry[name + ":latest"] = second;
  REQUIRE(world.Await(world.supervisor->SetAutoscale("far", false, {}, "test")).ok());
  CHECK(world.supervisor->classes().at("far")->config->image_digest == first);
  world.Started("far", "alice");
  CHECK(world.runtime.Only().spec.image == name + "@" + first);

  World later(world.store, &world.runtime);
  CHECK(later.supervisor->classes().at("far")->config->image_digest == first);
  later.runtime.registry[name + ":latest"] = second;
  CHECK(later.Await(later.supervisor->ApplyClass(source, "f", "test"))->result ==
        ApplyResult::kConfigured);
  CHECK(later.supervisor->classes().at("far")->config->image_digest == second);
  CHECK(later.Await(later.supervisor->ApplyClass(source, "f", "test"))->result ==
        ApplyResult::kUnchanged);
}

TEST_CASE("a start whose image is gone pulls it, which does not count as the start's time") {
  World world;
  world.Apply(kWebClass);
  const std::string image = "docker.io/library/demo:latest";
  world.runtime.images.clear();
  world.runtime.registry[image] = "sha256:" + std::string(64, 'a');
  world.runtime.create_error =
      Error(absl::StatusCode::kNotFound, code::kUnknownImage, "image is not here");
  world.runtime.hold_pull = true;
  auto instance = world.Create("web", "alice");
  auto started = world.Spawn(world.supervisor->Start(instance, true, MonoTime::max(), "test"));
  world.Advance(std::chrono::minutes(5));
  CHECK(instance->state() == State::kStarting);
  CHECK(world.runtime.pulls == 1);
  world.runtime.create_error = absl::OkStatus();
  world.runtime.Release();
  world.Settle();
  REQUIRE(started->has_value());
  CHECK((*started)->ok());
  CHECK(instance->state() == State::kHealthy);
}

TEST_CASE("a stop ends the pull that a start waits for") {
  World world;
  world.Apply(kWebClass);
  world.runtime.images.clear();
  world.runtime.create_error =
      Error(absl::StatusCode::kNotFound, code::kUnknownImage, "image is not here");
  world.runtime.hold_pull = true;
  auto instance = world.Create("web", "alice");
  REQUIRE(world.Await(world.supervisor->Start(instance, false, world.Deadline(), "test")).ok());
  world.Advance(std::chrono::seconds(1));
  REQUIRE(world.runtime.pulls == 1);
  instance->RequestStop({});
  world.Advance(std::chrono::seconds(1));
  CHECK(instance->state() == State::kStopped);
  CHECK(world.runtime.left_pulls == 1);
}

TEST_CASE("pruning leaves what classes use") {
  World world;
  world.Apply(kWebClass);
  world.runtime.images.insert("docker.io/library/old:1");
  StatusOr<PrunedImages> pruned = world.Await(world.supervisor->PruneImages());
  REQUIRE(pruned.ok());
  CHECK(pruned->references == std::vector<std::string>{"docker.io/library/old:1"});
  CHECK(world.runtime.images == std::set<std::string>{"docker.io/library/demo:latest"});
}

TEST_CASE("an apply says what open files count for, beyond the agent's own hard limit") {
  World world;
  const auto note = [&](rlim_t files) {
    const std::string source = kWebClass + ("nofile = " + std::to_string(files) + "\n");
    return world.Await(world.supervisor->ApplyClass(source, "f", "test"))->note;
  };
  rlimit own{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &own) == 0);
  constexpr rlim_t kMost = 1'048'576;
  CHECK(note(std::min(own.rlim_max, kMost)) == "");
  if (own.rlim_max >= kMost) return;  // no class may ask for more
  CHECK(note(kMost).find("nofile counts as " + std::to_string(own.rlim_max)) == 0);
}

TEST_CASE("an apply that changes `disk` says what becomes of the disks that are kept") {
  World world;
  const auto note = [&](const std::string& more) {
    return world.Await(world.supervisor->ApplyClass(kWebClass + more, "f", "test"))->note;
  };
  CHECK(note("disk = \"keep\"\n") == "");
  CHECK(note("") == "");  // there is none
  CHECK(note("disk = \"keep\"\n") == "");
  world.Started("web", "alice");
  CHECK(note("disk = \"keep\"\nnofile = 2048\n") == "");
  CHECK(note("").find("1 instance has a kept disk") == 0);
  world.Started("web", "bob");
  CHECK(world.runtime.disks.size() == 1);  // alice's: that of a running one, and no new one
  CHECK(note("disk = \"keep\"\n").find("1 instance has a disk from when") == 0);
  CHECK(world
            .Await(world.supervisor->Destroy(*world.supervisor->Find({"web", "alice"}),
                                             world.Deadline(), "test"))
            .ok());
  CHECK(note("") == "");
}

TEST_CASE("an apply says which volumes the host does not have yet") {
  World world;
  StatusOr<AppliedClass> applied = world.Await(world.supervisor->ApplyClass(
      std::string(kWebClass) + "[[volume]]\npath = \"/a\"\nhost = \"/tmp\"\n"
                               "[[volume]]\npath = \"/b\"\nhost = \"/nonexistent/b\"\n",
      "f", "test"));
  REQUIRE(applied.ok());
  CHECK(applied->note == "no instance will start before there is on this host: /nonexistent/b");
}

TEST_CASE("without a class the only one there is meant, and several are listed") {
  World world;
  CHECK(ErrorCodeOf(world.supervisor->ResolveClass("").status()) == code::kUnknownClass);
  world.Apply(kWebClass);
  CHECK(*world.supervisor->ResolveClass("") == "web");
  world.Apply("name = \"db\"\nimage = \"demo\"\ndefault_port = 8080\n");
  Status several = world.supervisor->ResolveClass("").status();
  CHECK(absl::IsInvalidArgument(several));
  CHECK(several.message().find("db, web") != absl::string_view::npos);
}

TEST_CASE("a request makes a new ID only where its class says so; routing makes its own") {
  World world;
  world.Apply(kWebClass);
  CHECK(ErrorCodeOf(world.Await(world.Wake("zoe")).status()) == code::kUnknownInstance);
  CHECK(world
            .Await(world.supervisor->EnsureAwake({"web", "instance-0"}, WakeOrigin::kRoute,
                                                 world.Deadline(), "test", 0))
            .ok());
  world.Apply(std::string(kWebClass) + "create = \"request\"\n");
  CHECK(world.Await(world.Wake("zoe")).ok());
}

TEST_CASE("random routing stays within its N and names every one of them") {
  World world;
  world.Apply(kWebClass);
  std::map<std::string, int> picked;
  for (int i = 0; i < 60; ++i) {
    auto instance = world.Await(world.supervisor->Route("web", 3, world.Deadline(), "test"));
    REQUIRE(instance.ok());
    ++picked[(*instance)->name().id];
  }
  CHECK(picked.size() == 3);
  CHECK(picked.contains("instance-0"));
  CHECK(picked.contains("instance-2"));
}

TEST_CASE("the published table knows every class and instance by name and address") {
  World world;
  world.Apply(kWebClass);
  std::shared_ptr<Instance> alice = world.Create("web", "alice");
  auto table = world.publisher.Get();
  CHECK(table->classes.at("web")->slots.at("alice") == alice->slot());
  CHECK(table->instances_by_address.at(alice->record().address).slot == alice->slot());
  CHECK(world.steered.contains({alice->record().address, 8080}));
  REQUIRE(world.Await(world.supervisor->Destroy(alice, world.Deadline(), "test")).ok());
  CHECK(world.publisher.Get()->instances_by_address.empty());
  CHECK_FALSE(world.steered.contains({alice->record().address, 8080}));
}

}  // namespace
}  // namespace ctr
