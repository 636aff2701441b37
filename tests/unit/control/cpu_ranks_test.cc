#include "agent/control/cpu_ranks.h"

#include "tests/unit/control/world.h"

namespace ctr {
namespace {

using namespace std::chrono_literals;

class TwoInstances : public World {
 public:
  TwoInstances() {
    Apply(kWebClass);
    busy = Started("web", "busy");
    quiet = Started("web", "quiet");
    Advance(1s);
  }

  FakeRuntime::Entry& Box(const Instance& instance) {
    return runtime.containers.at(instance.container()->id);
  }
  // `share` of a CPU for a second.
  void Use(const Instance& instance, double share) {
    for (int i = 0; i < 4; ++i) {
      Box(instance).usage.cpu_time += std::chrono::duration_cast<Duration>(share * 250ms);
      Advance(250ms);
    }
  }

  std::shared_ptr<Instance> busy;
  std::shared_ptr<Instance> quiet;
};

TEST_CASE("one that keeps a CPU busy goes behind the others, until it does so no longer") {
  TwoInstances world;
  world.Use(*world.busy, 0.4);
  CHECK_FALSE(world.Box(*world.busy).behind);
  world.Use(*world.busy, 1);
  world.Use(*world.busy, 1);
  CHECK(world.Box(*world.busy).behind);
  CHECK_FALSE(world.Box(*world.quiet).behind);
  world.Use(*world.busy, 0.3);
  CHECK(world.Box(*world.busy).behind);
  world.Use(*world.busy, 0.1);
  CHECK_FALSE(world.Box(*world.busy).behind);
}

TEST_CASE("many that each use little are all equals") {
  TwoInstances world;
  for (int i = 0; i < 4; ++i) {
    world.Box(*world.quiet).usage.cpu_time += 400ms;
    world.Use(*world.busy, 0.4);
  }
  CHECK_FALSE(world.Box(*world.busy).behind);
}

TEST_CASE("where the kernel refuses, all stay equals; what fails is tried again") {
  TwoInstances world;
  const std::string container = world.busy->container()->id;
  world.runtime.behind_error = absl::NotFoundError("no cpu.idle");
  world.Use(*world.busy, 1);
  world.Use(*world.busy, 1);
  CHECK_FALSE(world.supervisor->ranks().IsBehind(container));
  world.runtime.behind_error = absl::OkStatus();
  world.Use(*world.busy, 1);
  CHECK(world.supervisor->ranks().IsBehind(container));
  world.runtime.behind_error = absl::InternalError("no descriptors");
  world.Use(*world.busy, 0);
  CHECK(world.supervisor->ranks().IsBehind(container));
  world.runtime.behind_error = absl::OkStatus();
  world.Use(*world.busy, 0);
  CHECK_FALSE(world.supervisor->ranks().IsBehind(container));
  CHECK_FALSE(world.Box(*world.busy).behind);
}

TEST_CASE("an agent that another one takes over from makes all equals, and looks no more") {
  TwoInstances world;
  world.Use(*world.busy, 1);
  world.Use(*world.busy, 1);
  REQUIRE(world.Box(*world.busy).behind);
  world.supervisor->Hold();
  CHECK_FALSE(world.Box(*world.busy).behind);
  world.Use(*world.busy, 1);
  world.Use(*world.busy, 1);
  CHECK_FALSE(world.Box(*world.busy).behind);
  world.supervisor->Release();
  world.Use(*world.busy, 1);
  world.Use(*world.busy, 1);
  world.Use(*world.busy, 1);
  CHECK(world.Box(*world.busy).behind);
}

TEST_CASE("one that an agent before this one left behind comes back") {
  World before;
  before.Apply(kWebClass);
  before.Started("web", "busy");
  before.runtime.Only().behind = true;
  World after(before.store, &before.runtime);
  after.Advance(1s);
  CHECK_FALSE(after.runtime.Only().behind);
}

}  // namespace
}  // namespace ctr
