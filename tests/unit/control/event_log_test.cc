#include "agent/control/event_log.h"

#include "absl/strings/str_cat.h"
#include "tests/unit/control/world.h"

namespace ctr {
namespace {

using namespace std::chrono_literals;
using Pick = EventQuery::Pick;

Event Of(std::string type, std::string id = "alice", std::string message = "") {
  return {
      .type = std::move(type), .instance = {"web", std::move(id)}, .message = std::move(message)};
}

std::vector<int64_t> Numbers(const EventPage& page) {
  std::vector<int64_t> numbers;
  for (const Event& event : page.events) numbers.push_back(event.number);
  return numbers;
}

std::vector<int64_t> Range(int64_t from, int64_t to) {
  std::vector<int64_t> numbers;
  for (int64_t number = from; number <= to; ++number) numbers.push_back(number);
  return numbers;
}

// A log on its own, whose store the test sees.
struct Fixture {
  Fixture() { world.Settle(); }

  EventPage Read(EventQuery query) {
    StatusOr<EventPage> page = world.Await(log.Read(std::move(query)));
    REQUIRE(page.ok());
    return *std::move(page);
  }
  void Fill(int count) {
    for (int i = 0; i < count; ++i) log.Record(Of(event::kWake, "alice", std::to_string(i)));
  }

  World world;
  FakeStore store;
  EventLog log{store, world.clock, world.io.get_executor()};
};

TEST_CASE("events get ascending numbers and the time, and are written behind") {
  Fixture f;
  f.log.Record(Of(event::kWake));
  f.world.clock.Advance(5s);
  f.log.Record(Of(event::kHealthy));
  REQUIRE(f.store.events.size() == 2);
  CHECK(f.store.events[0].number == 1);
  CHECK(f.store.events[1].number == 2);
  CHECK(f.store.events[1].at - f.store.events[0].at == 5s);
  CHECK(f.log.newest() == 2);
}

TEST_CASE("a number that was shown and not written is not given again by the next agent") {
  Fixture f;
  f.Fill(3000);
  const int64_t shown = f.log.newest();
  f.store.events.resize(10);  // killed: the rest was not on disk
  EventLog next(f.store, f.world.clock, f.world.io.get_executor());
  next.Resume(f.store.events.back().number);
  next.Record(Of(event::kAgentStarted));
  CHECK(next.newest() > shown);
}

TEST_CASE("a log without events begins with number 1") {
  Fixture f;
  f.log.Resume(0);
  f.log.Record(Of(event::kWake));
  CHECK(f.log.newest() == 1);
}

TEST_CASE("repetitions are told by themselves, ten seconds later, and the log stays quiet then") {
  Fixture f;
  for (int i = 0; i < 1000; ++i) f.log.Record(Of(event::kRefused, "alice", "overloaded: full"));
  CHECK(f.store.events.size() == 1);
  f.world.Advance(9s);
  CHECK(f.store.events.size() == 1);
  f.world.Advance(1s);
  REQUIRE(f.store.events.size() == 2);
  CHECK(f.store.events[1].message == "overloaded: full (999 more within 10s)");
  f.world.Advance(60s);
  CHECK(f.store.events.size() == 2);
  f.log.Record(Of(event::kRefused, "alice", "overloaded: full"), 3);
  f.world.Advance(10s);
  CHECK(f.store.events.size() == 4);
}

TEST_CASE("what is counted when the agent ends is told then") {
  Fixture f;
  f.log.Record(Of(event::kRefused, "alice", "overloaded: full"), 7);
  f.log.TellCounted();
  REQUIRE(f.store.events.size() == 2);
  CHECK(f.store.events[1].message == "overloaded: full (6 more within 10s)");
}

TEST_CASE("a log that goes while it counts takes its timer with it") {
  Fixture f;
  {
    EventLog other(f.store, f.world.clock, f.world.io.get_executor());
    other.Record(Of(event::kRefused, "alice", "overloaded: full"), 7);
    f.world.Settle();
  }
  f.world.Advance(60s);
  CHECK(f.store.events.size() == 1);
}

TEST_CASE("the newest events are read from memory and store without a gap or a double") {
  Fixture f;
  f.Fill(5000);
  EventPage page = f.Read({.limit = 3000});
  CHECK(page.cut);
  CHECK(page.seen == 5000);
  CHECK(Numbers(page) == Range(2001, 5000));
  CHECK(Numbers(f.Read({.limit = 10})) == Range(4991, 5000));
  CHECK_FALSE(f.Read({.limit = 5000}).cut);
}

TEST_CASE("pages from the oldest on cover everything once, whatever is recorded meanwhile") {
  Fixture f;
  f.Fill(5000);
  std::vector<int64_t> all;
  EventQuery query{.limit = 700, .pick = Pick::kOldest};
  for (bool more = true; more;) {
    EventPage page = f.Read(query);
    for (int64_t number : Numbers(page)) all.push_back(number);
    query.after = page.seen;
    more = page.cut;
    if (all.size() < 2000) f.Fill(300);
  }
  CHECK(all == Range(1, f.log.newest()));
  CHECK(f.log.newest() > 5000);
}

TEST_CASE("what the store could not write is still read from memory") {
  Fixture f;
  f.Fill(10);
  f.store.events.clear();
  CHECK(Numbers(f.Read({})) == Range(1, 10));
}

TEST_CASE("a later agent's events follow those in the store") {
  Fixture f;
  f.Fill(10);
  EventLog next(f.store, f.world.clock, f.world.io.get_executor());
  next.Resume(10);
  next.Record(Of(event::kAdopted));
  StatusOr<EventPage> page = f.world.Await(next.Read({.limit = 3}));
  REQUIRE(page.ok());
  CHECK(page->events[1].number == 10);
  CHECK(page->events[2].type == event::kAdopted);
}

TEST_CASE("events are filtered by instance, class, type and time") {
  Fixture f;
  f.log.Record(Of(event::kWake, "alice"));
  f.log.Record(Of(event::kWake, "bob"));
  f.world.clock.Advance(10s);
  f.log.Record(Of(event::kSlept, "alice"));
  f.log.Record({.type = event::kAgentStarted});
  CHECK(Numbers(f.Read({.instance = {"web", "alice"}})) == std::vector<int64_t>{1, 3});
  CHECK(Numbers(f.Read({.instance = {"web", ""}})) == Range(1, 3));
  CHECK(Numbers(f.Read({.types = {"wake", "agent_started"}})) == std::vector<int64_t>{1, 2, 4});
  CHECK(Numbers(f.Read({.since = f.world.clock.Wall()})) == Range(3, 4));
}

TEST_CASE("a follower that saw everything is woken by the next event, and only then") {
  Fixture f;
  f.Fill(3);
  struct Follower {
    static awaitable<int64_t> Run(EventLog* log) {
      co_await log->AwaitNewer(3);
      co_return log->newest();
    }
  };
  auto seen = f.world.Spawn(Follower::Run(&f.log));
  f.world.Settle();
  CHECK_FALSE(seen->has_value());
  f.Fill(1);
  f.world.Settle();
  CHECK(*seen == 4);
  auto at_once = f.world.Spawn(Follower::Run(&f.log));
  f.world.Settle();
  CHECK(at_once->has_value());
}

TEST_CASE("a request that a data loop refused is an event of its instance, or of its class") {
  World world;
  world.Apply(kWebClass);
  world.Create("web", "alice");
  const size_t before = world.store->events.size();
  world.supervisor->Refused({{"web", "alice"}, "upstream_error", "gone", "GET / from 10.0.0.1"});
  world.supervisor->Refused({{"web", "zoe"}, "unknown_instance", "no zoe", "GET / from 10.0.0.1"});
  world.supervisor->Refused({{"web", "zac"}, "unknown_instance", "no zac", "GET / from 10.0.0.1"});
  world.supervisor->Refused({{"nope", "x"}, "unknown_class", "no class nope", ""});
  world.Settle();
  REQUIRE(world.store->events.size() == before + 3);
  const Event& first = world.store->events[before];
  CHECK(first.type == event::kRefused);
  CHECK(first.instance == InstanceName{"web", "alice"});
  CHECK(first.message == "upstream_error: gone");
  CHECK(first.cause == "GET / from 10.0.0.1");
  CHECK(world.store->events[before + 1].instance == InstanceName{"web", ""});
  CHECK(world.store->events[before + 2].instance == InstanceName());
  world.Advance(10s);
  CHECK(world.store->events.back().message == "unknown_instance: no zac (1 more within 10s)");
}

TEST_CASE("what routing refuses is an event") {
  World world;
  world.Apply(std::string(kWebClass) + "manual_start = true\n[route]\ninstances = 1\n");
  REQUIRE_FALSE(world.Await(world.supervisor->Route("web", 1, world.Deadline(), "ctr route")).ok());
  world.Settle();
  CHECK(world.store->events.back().type == event::kRefused);
  CHECK(world.store->events.back().message.starts_with("manual_start: "));
  CHECK(world.store->events.back().cause == "ctr route");
}

}  // namespace
}  // namespace ctr
