#include "agent/control/class_meter.h"

#include "tests/unit/control/world.h"

namespace ctr {
namespace {

using namespace std::chrono_literals;

std::vector<std::string> ToldLimits(const World& world) {
  std::vector<std::string> messages;
  for (const Event& event : world.store->events) {
    if (event.type == event::kLimited) messages.push_back(event.message);
  }
  return messages;
}

TEST_CASE("who is held to its limits is told by what and how often, once a minute at most") {
  World world;
  world.Apply(
      "name = \"web\"\nimage = \"demo:latest\"\ndefault_port = 8080\nsleep_after = \"never\"\n"
      "[resources]\nmemory = \"64MiB\"\npids = 32\n");
  world.Started("web", "bomb");
  world.Advance(10s);
  CHECK(ToldLimits(world).empty());

  world.runtime.Only().usage.refused_processes = 1000;
  world.Advance(10s);
  CHECK(ToldLimits(world) ==
        std::vector<std::string>{"it wanted more processes than resources.pids (32) 1000 times"});
  world.runtime.Only().usage.refused_processes = 3000;
  world.Advance(10s);
  CHECK(ToldLimits(world).size() == 1);
  world.runtime.Only().usage.oom_kills = 2;
  world.Advance(60s);
  REQUIRE(ToldLimits(world).size() == 2);
  CHECK(ToldLimits(world).back() ==
        "it wanted more processes than resources.pids (32) 2000 times; the kernel killed 2 of its "
        "processes for want of memory (resources.memory 64MiB)");
}

}  // namespace
}  // namespace ctr
