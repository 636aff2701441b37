#include <doctest/doctest.h>

#include "agent/runtime/platform.h"
#include "tests/unit/control/world.h"

namespace ctr {
namespace {

constexpr char kDb[] = "name = \"db\"\nimage = \"demo\"\ndefault_port = 8080\n";

}  // namespace

TEST_CASE("a class file with a byte order mark that always pulls is read at the next start") {
  World world;
  const std::string digest = "sha256:" + std::string(64, 'a');
  world.runtime.registry["docker.io/library/far:latest"] = digest;
  const std::string mark = "\xEF\xBB\xBF";
  world.Apply(mark +
              "name = \"far\"\nimage = \"far\"\ndefault_port = 8080\npull_policy = \"always\"\n");
  World later(world.store, &world.runtime);
  REQUIRE(later.supervisor->classes().contains("far"));
  CHECK(later.supervisor->classes().at("far")->config->image_digest == digest);
}

TEST_CASE(
    "a class whose kept file can't be read costs no other, and comes back once applied again") {
  World world;
  world.Apply(kWebClass);
  world.Apply(kDb);
  world.Started("web", "alice");
  const uint32_t of_db = world.Started("db", "bob")->record().address;
  const uint32_t of_class = world.store->classes.at("db").address;
  world.store->classes.at("db").source = "image_digest = \"\"\nno TOML";

  World later(world.store, &world.runtime);
  later.Settle();
  CHECK(later.supervisor->classes().size() == 1);
  CHECK(later.supervisor->classes().contains("web"));
  CHECK(later.store->events.back().type != event::kRemoved);
  const bool told = std::any_of(later.store->events.begin(), later.store->events.end(),
                                [](const Event& it) { return it.type == event::kClassUnread; });
  CHECK(told);
  CHECK(later.runtime.containers.size() == 2);
  CHECK(later.store->instances.contains({"db", "bob"}));
  StatusOr<AppliedClass> applied = later.Await(later.supervisor->ApplyClass(kDb, "f", "test"));
  REQUIRE_MESSAGE(applied.ok(), applied.status().ToString());
  CHECK(applied->note.find("restart the agent") != std::string::npos);

  World third(later.store, &later.runtime);
  third.Settle();
  CHECK(third.store->classes.at("db").address == of_class);
  auto bob = third.supervisor->Find({"db", "bob"});
  REQUIRE_MESSAGE(bob.ok(), bob.status().ToString());
  CHECK((*bob)->state() == State::kHealthy);
  CHECK((*bob)->record().address == of_db);
}

TEST_CASE("another machine's image takes no name that a class uses") {
  World world;
  world.Apply(kWebClass);
  const std::string demo = "docker.io/library/demo:latest";
  world.runtime.registry[demo] = "sha256:" + std::string(64, 'a');
  const auto pull = [&](const std::string& platform) {
    return world
        .Await(world.supervisor->PullImage({.reference = demo, .platform = platform}, nullptr))
        .status();
  };
  Status refused = pull("linux/s390x");
  CHECK(ErrorCodeOf(refused) == code::kInUse);
  CHECK(refused.message().find("class web") != std::string::npos);
  CHECK(world.runtime.pulls == 0);
  CHECK(ErrorCodeOf(pull("dos")) == code::kBadRequest);
  CHECK(pull(PlatformName(HostPlatform())).ok());
  CHECK(world.runtime.pulls == 1);
}

TEST_CASE("another machine's image takes no name that a class begins to use during the pull") {
  World world;
  const std::string demo = "docker.io/library/demo:latest";
  world.runtime.registry[demo] = "sha256:" + std::string(64, 'a');
  world.runtime.hold_pull = true;
  auto pulled = world.Spawn(
      world.supervisor->PullImage({.reference = demo, .platform = "linux/s390x"}, nullptr));
  world.Settle();
  REQUIRE(world.runtime.pulls == 1);
  world.Apply(kWebClass);
  world.runtime.Release();
  world.Settle();
  REQUIRE(pulled->has_value());
  CHECK(ErrorCodeOf((*pulled)->status()) == code::kInUse);
}

TEST_CASE("who runs the image that had the name before is outdated until it starts again") {
  const std::string demo = "docker.io/library/demo:latest";
  World world;
  world.runtime.digests[demo] = "sha256:first";
  world.Apply(kWebClass);
  auto alice = world.Started("web", "alice");
  CHECK_FALSE(alice->Outdated());
  CHECK(alice->class_state()->image_digest == "sha256:first");

  world.runtime.digests[demo] = "sha256:second";
  CHECK(world.Await(world.supervisor->ImportImages(UniqueFd(), demo)).ok());
  CHECK(alice->Outdated());
  CHECK(alice->RunsOldImage());
  CHECK(alice->container()->image_digest == "sha256:first");
  CHECK(alice->class_state()->image_digest == "sha256:second");
  auto applied = world.Await(world.supervisor->ApplyClass(kWebClass, "web.toml", ""));
  REQUIRE(applied.ok());
  CHECK(applied->result == ApplyResult::kUnchanged);
  CHECK(applied->note.find("1 instance runs") != std::string::npos);

  CHECK(world.Await(world.supervisor->Restart(alice, true, world.Deadline(), "")).ok());
  CHECK_FALSE(alice->Outdated());
  CHECK(alice->container()->image_digest == "sha256:second");
}

TEST_CASE("who has a kept disk of the image before stays outdated until it is destroyed") {
  const std::string demo = "docker.io/library/demo:latest";
  const std::string keep = std::string(kWebClass) + "disk = \"keep\"\n";
  World world;
  world.runtime.digests[demo] = "sha256:first";
  world.Apply(keep);
  auto alice = world.Started("web", "alice");
  CHECK_FALSE(alice->Outdated());
  world.runtime.digests[demo] = "sha256:second";
  CHECK(world.Await(world.supervisor->ImportImages(UniqueFd(), demo)).ok());
  CHECK(world.Await(world.supervisor->Restart(alice, true, world.Deadline(), "")).ok());
  CHECK(alice->RunsOldImage());
  CHECK(alice->container()->image_digest == "sha256:first");
  CHECK(alice->class_state()->image_digest == "sha256:second");
  auto applied = world.Await(world.supervisor->ApplyClass(keep, "web.toml", ""));
  REQUIRE(applied.ok());
  CHECK(applied->note.find("ctr destroy ID") != std::string::npos);
  // That it is outdated starts nothing again.
  const uint64_t starts = alice->observed().generation;
  world.Advance(std::chrono::minutes(1));
  CHECK(alice->observed().generation == starts);

  CHECK(world.Await(world.supervisor->Destroy(alice, world.Deadline(), "")).ok());
  alice = world.Started("web", "alice");
  CHECK_FALSE(alice->RunsOldImage());
  CHECK(alice->container()->image_digest == "sha256:second");
}

TEST_CASE("who is being made of an image while its name moves is outdated from the start") {
  const std::string demo = "docker.io/library/demo:latest";
  World world;
  world.runtime.digests[demo] = "sha256:first";
  world.Apply(kWebClass);
  auto alice = world.Create("web", "alice");
  world.runtime.hold_create = true;
  auto started = world.Spawn(world.supervisor->Start(alice, true, world.Deadline(), "test"));
  world.Settle();
  world.Advance(std::chrono::milliseconds(10));
  world.runtime.digests[demo] = "sha256:second";
  CHECK(world.Await(world.supervisor->ImportImages(UniqueFd(), demo)).ok());
  world.runtime.Release();
  world.Settle();
  REQUIRE(started->has_value());
  CHECK((*started)->ok());
  CHECK(alice->RunsOldImage());
}

TEST_CASE("a pull that moves a name outdates who runs what it meant") {
  const std::string demo = "docker.io/library/demo:latest";
  World world;
  world.runtime.digests[demo] = "sha256:first";
  world.Apply(kWebClass);
  auto alice = world.Started("web", "alice");
  world.runtime.registry[demo] = "sha256:second";
  CHECK(world.Await(world.supervisor->PullImage({.reference = demo}, nullptr)).ok());
  CHECK(alice->RunsOldImage());
}

TEST_CASE("an image that a class comes to use while others are pruned stays") {
  World world;
  world.runtime.images = {"docker.io/library/a:1", "docker.io/library/demo:latest"};
  world.runtime.hold_prune = true;
  auto pruned = world.Spawn(world.supervisor->PruneImages());
  world.Settle();
  world.Apply(kWebClass + std::string("pull_policy = \"never\"\n"));
  world.runtime.Release();
  world.Settle();
  REQUIRE(pruned->has_value());
  CHECK((**pruned)->references == std::vector<std::string>{"docker.io/library/a:1"});
}

TEST_CASE("what an apply has pulled is neither pruned nor removed before the class is there") {
  World world;
  const std::string far = "docker.io/library/far:latest";
  const std::string digest = "sha256:" + std::string(64, 'a');
  world.runtime.registry[far] = digest;
  world.runtime.hold_named = true;
  auto applied = world.Spawn(world.supervisor->ApplyClass(
      "name = \"far\"\nimage = \"far\"\ndefault_port = 8080\npull_policy = \"always\"\n", "f",
      "test"));
  world.Settle();
  REQUIRE(world.runtime.images.contains(far));
  REQUIRE(world.Await(world.supervisor->PruneImages()).ok());
  Status removed = world.Await(world.supervisor->RemoveImage(far));
  CHECK(ErrorCodeOf(removed) == code::kInUse);
  world.runtime.Release();
  world.Settle();
  REQUIRE(applied->has_value());
  CHECK((**applied)->result == ApplyResult::kCreated);
  CHECK(world.runtime.images == std::set<std::string>{far, AtDigest(far, digest)});
  removed = world.Await(world.supervisor->RemoveImage(far));
  CHECK(ErrorCodeOf(removed) == code::kInUse);
}

}  // namespace ctr
