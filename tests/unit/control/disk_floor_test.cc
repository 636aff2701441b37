#include "agent/control/disk_floor.h"

#include <algorithm>
#include <fstream>

#include "tests/unit/control/world.h"

namespace ctr {
namespace {

using namespace std::chrono_literals;

constexpr int64_t kMiB = int64_t{1} << 20;

// Two instances on a disk of 100 GiB whose floor is one gibibyte.
class FullDisk : public World {
 public:
  FullDisk() {
    Apply(kWebClass);
    writer = Started("web", "writer");
    quiet = Started("web", "quiet");
    SetFree(3000);
    Advance(1s);  // near: what each takes by now is noted
  }

  void SetFree(int64_t mib) { runtime.space.free_bytes = mib * kMiB; }
  FakeRuntime::Entry& Box(const Instance& instance) {
    return runtime.containers.at(instance.container()->id);
  }
  // `mib` more in its files.
  void Write(const Instance& instance, int64_t mib) {
    Box(instance).disk.bytes += mib * kMiB;
    runtime.space.free_bytes -= mib * kMiB;
  }
  bool Told(const char* type) {
    return std::any_of(store->events.begin(), store->events.end(),
                       [type](const Event& event) { return event.type == type; });
  }

  std::shared_ptr<Instance> writer;
  std::shared_ptr<Instance> quiet;
};

// As the agent of that life has it.
const Instance& Find(const World& world, const char* id) {
  return **world.supervisor->Find({"web", id});
}

TEST_CASE("the instance that fills the disk is killed below the floor, and the others are not") {
  FullDisk world;
  world.Write(*world.quiet, 5);
  world.Write(*world.writer, 2000);
  world.Advance(250ms);
  CHECK(world.writer->state() == State::kStopped);
  CHECK(world.writer->observed().reason == StopReason::kDiskFull);
  CHECK(world.writer->observed().message ==
        "its files had grown most, by 2.0 GiB, when 995.0 MiB were free, and min_free is 1.0 GiB");
  CHECK(world.quiet->state() == State::kHealthy);
  CHECK(world.Told(event::kDiskFull));
}

TEST_CASE("one that goes because it can't be counted is told so") {
  FullDisk world;
  world.Box(*world.writer).disk.whole = false;
  world.Write(*world.quiet, 700);
  world.SetFree(500);
  world.Advance(250ms);
  CHECK(world.writer->state() == State::kStopped);
  CHECK(world.writer->observed().message ==
        "not all its files can be counted, and none that can have grown as much as is missing, "
        "when 500.0 MiB were free, and min_free is 1.0 GiB");
  CHECK(world.quiet->state() == State::kHealthy);
}

TEST_CASE("it is killed at once, whatever is in flight and whatever it does with SIGTERM") {
  FullDisk world;
  world.runtime.exit_on_sigterm = false;
  StatusOr<Passage> passage = world.Await(world.Wake("writer"));
  REQUIRE(passage.ok());
  world.Write(*world.writer, 2500);
  world.Advance(250ms);
  CHECK(world.writer->state() == State::kStopped);
}

TEST_CASE("it starts again by its restart policy, but not while the disk is as full") {
  FullDisk world;
  world.Write(*world.writer, 2500);
  world.Advance(250ms);
  StatusOr<Passage> refused = world.Await(world.Wake("writer"));
  CHECK(ErrorCodeOf(refused.status()) == code::kDiskFull);
  world.Advance(30s);
  CHECK(world.writer->state() == State::kStopped);
  world.SetFree(5000);
  world.Advance(3s);
  CHECK(world.writer->state() == State::kHealthy);
}

TEST_CASE("room that the agent's reserve gave free is none for the one that filled the disk") {
  FullDisk world;
  world.runtime.space.total_bytes = int64_t{1} << 40;  // the data directory's
  world.Write(*world.writer, 2500);
  world.Advance(250ms);
  REQUIRE(world.writer->state() == State::kStopped);
  world.disk_free = 0;
  world.Advance(5s);
  REQUIRE_FALSE(world.disk_reserved);
  world.SetFree(1050);  // 64 of it
  world.Advance(30s);
  CHECK(world.writer->state() == State::kStopped);
  CHECK(world.writer->AwaitsRoom());
  world.SetFree(1100);
  world.Advance(3s);
  CHECK(world.writer->state() == State::kHealthy);
}

TEST_CASE("what one wrote before others than instances filled the disk does not stop it") {
  FullDisk world;
  world.SetFree(90'000);
  world.Advance(1s);
  world.Write(*world.writer, 40'000);
  world.Advance(1s);
  world.SetFree(0);
  world.Advance(1s);
  CHECK(world.Told(event::kDiskLow));
  CHECK(world.writer->state() == State::kHealthy);
}

TEST_CASE("whoever takes the agent's reserve has taken it") {
  FullDisk world;
  world.runtime.space.total_bytes = int64_t{1} << 40;  // the data directory's
  world.disk_free = 0;
  world.SetFree(25);
  world.Advance(5s);
  REQUIRE_FALSE(world.disk_reserved);
  world.SetFree(25 + 64);
  world.Advance(1s);
  world.Write(*world.writer, 40);
  world.Advance(1s);
  CHECK(world.writer->state() == State::kStopped);
}

TEST_CASE("what others than instances write stops none of them") {
  FullDisk world;
  world.SetFree(100);
  world.Write(*world.writer, 20);
  world.Advance(1s);
  CHECK(world.writer->state() == State::kHealthy);
  CHECK(world.quiet->state() == State::kHealthy);
  CHECK(world.Told(event::kDiskLow));
}

TEST_CASE("a disk that is filled between two looks costs the one that filled it") {
  FullDisk world;
  world.SetFree(90'000);
  world.Advance(2s);
  world.Write(*world.quiet, 900);
  world.Write(*world.writer, 89'000);
  world.Advance(1s);
  CHECK(world.writer->state() == State::kStopped);
  CHECK(world.quiet->state() == State::kHealthy);
}

TEST_CASE("a disk that is filled while its containers are measured costs the one that filled it") {
  FullDisk world;
  world.SetFree(90'000);
  world.Advance(2s);
  world.SetFree(60'000);
  world.runtime.before_measuring = [&] { world.Write(*world.writer, 60'000); };
  world.Advance(1s);
  REQUIRE(world.writer->state() == State::kHealthy);
  world.Advance(1s);
  CHECK(world.writer->state() == State::kStopped);
  CHECK(world.quiet->state() == State::kHealthy);
}

TEST_CASE("a disk that is filled while there is no agent costs the one that filled it, too") {
  FullDisk before;
  before.Write(*before.quiet, 5);
  before.Write(*before.writer, 2500);
  World world(before.store, &before.runtime);
  world.Advance(1s);
  CHECK(Find(world, "writer").state() == State::kStopped);
  CHECK(Find(world, "quiet").state() == State::kHealthy);
}

TEST_CASE("what an earlier agent left is not believed if it can't be of this disk") {
  for (const char* left :
       {"", "x", "1 2 3 4\n", "107374182400 -1 0 0\n", "107374182400 3145728000 0 0\na -5 1 1\n"}) {
    CAPTURE(left);
    FullDisk before;
    before.Write(*before.writer, 2500);
    std::ofstream(before.folder / "disk-use") << left;
    World world(before.store, &before.runtime);
    world.Advance(1s);
    CHECK(Find(world, "writer").state() == State::kHealthy);
  }
}

TEST_CASE("what was on a kept disk before a start is not what it grew by") {
  FullDisk world;
  world.SetFree(90'000);
  world.Apply(std::string(kWebClass) + "disk = \"keep\"\n");
  world.Advance(2s);
  std::shared_ptr<Instance> old = world.Started("web", "old");
  world.Box(*old).disk.bytes = 80'000 * kMiB;
  world.SetFree(80'000);
  world.Advance(1s);
  CHECK(world.Await(world.supervisor->Stop(old, {}, true, world.Deadline(), "test")).ok());
  world.runtime.disk_amounts[old->name()].bytes = 80'000 * kMiB;
  world.Started("web", "old");
  world.Advance(1s);
  world.SetFree(3000);
  world.Write(*world.writer, 2900);
  world.Advance(1s);
  CHECK(old->state() == State::kHealthy);
}

TEST_CASE(
    "of several that fill it together the others go, too, whatever they take of what was freed") {
  FullDisk world;
  world.Write(*world.quiet, 900);
  world.Write(*world.writer, 2000);
  world.Advance(250ms);
  REQUIRE(world.writer->state() == State::kStopped);
  world.Box(*world.quiet).disk.bytes += 2000 * kMiB;  // what the other one gave back
  world.Advance(250ms);
  CHECK(world.quiet->state() == State::kHealthy);
  world.Advance(1s);
  CHECK(world.quiet->state() == State::kStopped);
}

constexpr char kKeptClass[] = R"(
name = "web"
image = "demo:latest"
default_port = 8080
disk = "keep"
restart = "always"
sleep_after = "never"
)";

TEST_CASE(
    "what one that was stopped keeps on its disk is not asked of the others, nor lets them be") {
  FullDisk world;
  world.Apply(kKeptClass);
  std::shared_ptr<Instance> kept = world.Started("web", "kept");
  world.Advance(250ms);
  world.Write(*kept, 2400);
  world.Write(*world.writer, 60);
  world.Advance(250ms);
  REQUIRE(kept->state() == State::kStopped);
  world.Write(*world.writer, 540);  // all that was left
  world.Advance(250ms);
  world.Advance(2s);
  CHECK(world.writer->state() == State::kStopped);
  CHECK(world.quiet->state() == State::kHealthy);
}

TEST_CASE("one with a kept disk that was stopped waits for room in the agent's next life as well") {
  FullDisk before;
  before.Apply(kKeptClass);
  std::shared_ptr<Instance> kept = before.Started("web", "kept");
  before.Advance(250ms);
  before.Write(*kept, 2500);
  before.Advance(250ms);
  REQUIRE(kept->state() == State::kStopped);
  World world(before.store, &before.runtime);
  world.Advance(30s);
  CHECK(world.runtime.creates == 0);
  world.runtime.space.free_bytes = 5000 * kMiB;
  world.Advance(3s);
  CHECK(Find(world, "kept").state() == State::kHealthy);
}

TEST_CASE("a start that is refused for want of room leaves the restart that waits for it") {
  FullDisk world;
  world.Apply(kKeptClass);
  std::shared_ptr<Instance> kept = world.Started("web", "kept");
  world.Advance(250ms);
  world.Write(*kept, 2500);
  world.Advance(250ms);
  REQUIRE(kept->AwaitsRoom());
  for (const bool wait : {true, false}) {
    const Status refused =
        world.Await(world.supervisor->Start(kept, wait, world.Deadline(), "test"));
    CHECK(ErrorCodeOf(refused) == code::kDiskFull);
  }
  CHECK(ErrorCodeOf(world.Await(kept->AdmitVisit(world.Deadline(), "")).status()) ==
        code::kDiskFull);
  world.SetFree(5000);
  world.Advance(5s);
  CHECK(kept->state() == State::kHealthy);
}

TEST_CASE("a stop by request of one that was once stopped for the disk is one in the next life") {
  FullDisk before;
  before.Apply(kKeptClass);
  std::shared_ptr<Instance> kept = before.Started("web", "kept");
  before.Advance(250ms);
  before.Write(*kept, 2500);
  before.Advance(250ms);
  before.SetFree(9000);
  before.Advance(1s);
  before.Advance(3s);
  REQUIRE(kept->state() == State::kHealthy);
  before.runtime.exit_on_sigterm = false;
  auto stop = before.Spawn(
      before.supervisor->Stop(kept, {.grace = 10min}, true, before.Deadline(), "test"));
  before.Settle();
  REQUIRE(kept->state() == State::kStopping);
  World world(before.store, &before.runtime);
  world.Advance(5min);
  const Observed& seen = Find(world, "kept").observed();
  CHECK(seen.state == State::kStopped);
  CHECK(seen.reason == StopReason::kRequested);
  CHECK(world.runtime.creates == 0);
}

TEST_CASE("of two who filled it while there was no agent both go") {
  FullDisk before;
  before.Write(*before.quiet, 900);
  before.Write(*before.writer, 2000);
  World world(before.store, &before.runtime);
  world.Advance(250ms);
  REQUIRE(Find(world, "writer").state() == State::kStopped);
  world.runtime.containers.at(Find(world, "quiet").container()->id).disk.bytes +=
      2000 * kMiB;  // what the other one gave back
  world.Advance(1s);
  world.Advance(1s);
  CHECK(Find(world, "quiet").state() == State::kStopped);
}

TEST_CASE("what is on a kept disk when it is started again is not what it grew by") {
  FullDisk world;
  world.SetFree(90'000);
  world.Apply(kKeptClass);
  world.Advance(1s);
  std::shared_ptr<Instance> kept = world.Started("web", "kept");
  world.Advance(1s);
  world.Write(*kept, 900);  // too little to be measured
  world.Advance(1s);
  CHECK(world.Await(world.supervisor->Stop(kept, {}, true, world.Deadline(), "test")).ok());
  world.SetFree(3000);
  world.Advance(1s);
  world.SetFree(900);
  world.Advance(1s);
  world.runtime.disk_amounts[kept->name()].bytes = 900 * kMiB;
  world.Started("web", "kept");
  world.Advance(1s);
  world.Advance(5s);
  CHECK(kept->state() == State::kHealthy);
}

TEST_CASE("who fills the last of a low disk slowly goes, too") {
  FullDisk world;
  world.Apply(kKeptClass);
  std::shared_ptr<Instance> slow = world.Started("web", "slow");
  std::shared_ptr<Instance> still = world.Started("web", "still");
  world.SetFree(900);
  world.Advance(250ms);
  world.Advance(2min);
  for (int i = 0; i < 60 && slow->state() == State::kHealthy; ++i) {
    world.Write(*slow, 1);
    world.Advance(10s);
  }
  CHECK(slow->observed().reason == StopReason::kDiskFull);
  CHECK(still->state() == State::kHealthy);
}

TEST_CASE(
    "one whose agent is killed just when it stops it for the disk waits for room all the same") {
  for (const bool is_removed : {true, false}) {
    CAPTURE(is_removed);
    FullDisk before;
    before.Apply(kKeptClass);
    std::shared_ptr<Instance> kept = before.Started("web", "kept");
    before.Advance(250ms);
    before.Write(*kept, 2500);
    before.store->loses_behind = true;
    before.runtime.hold_remove = !is_removed;
    before.Advance(250ms);
    before.store->loses_behind = false;
    World world(before.store, &before.runtime);
    world.Advance(30s);
    CHECK(world.runtime.creates == 0);
    const Observed& seen = Find(world, "kept").observed();
    CHECK(seen.state == State::kStopped);
    CHECK(seen.reason == StopReason::kDiskFull);
    CHECK(seen.message.find("had grown most") != std::string::npos);
  }
}

TEST_CASE("a kept disk that grows at once when it is started again has grown") {
  FullDisk world;
  world.SetFree(90'000);
  world.Apply(kKeptClass);
  world.Advance(1s);
  std::shared_ptr<Instance> kept = world.Started("web", "kept");
  world.Advance(1s);
  CHECK(world.Await(world.supervisor->Stop(kept, {}, true, world.Deadline(), "test")).ok());
  world.Started("web", "kept");
  world.Write(*kept, 89'900);
  world.Advance(1s);
  CHECK(kept->state() == State::kStopped);
  CHECK(kept->observed().reason == StopReason::kDiskFull);
}

TEST_CASE("one that is being stopped is not waited for while it fills the disk") {
  FullDisk world;
  world.runtime.exit_on_sigterm = false;
  auto stop = world.Spawn(
      world.supervisor->Stop(world.writer, {.grace = 10min}, true, world.Deadline(), "test"));
  world.Settle();
  REQUIRE(world.writer->state() == State::kStopping);
  world.Write(*world.writer, 2500);
  world.Advance(250ms);
  CHECK(world.writer->state() == State::kStopped);
  CHECK(world.writer->observed().reason == StopReason::kRequested);
  CHECK(std::any_of(world.store->events.begin(), world.store->events.end(), [](const Event& event) {
    return event.type == event::kKilled &&
           event.message.find("had grown most") != std::string::npos;
  }));
}

TEST_CASE("after one went the next is looked for from there") {
  FullDisk world;
  world.Write(*world.writer, 2500);
  world.Advance(250ms);
  REQUIRE(world.writer->state() == State::kStopped);
  world.Advance(250ms);
  world.Write(*world.quiet, 30);
  world.Advance(250ms);
  CHECK(world.quiet->state() == State::kHealthy);
  world.Write(*world.quiet, 30);
  world.Advance(250ms);
  CHECK(world.quiet->state() == State::kStopped);
}

}  // namespace
}  // namespace ctr
