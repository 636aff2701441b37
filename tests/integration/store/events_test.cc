#include "tests/integration/store/store_fixture.h"

namespace ctr {
namespace {

using namespace std::chrono_literals;

const WallTime kStart{std::chrono::seconds(1'700'000'000)};

Event MakeEvent(int64_t number, WallTime at = kStart, std::string id = "alice",
                std::string type = "wake") {
  return {.number = number,
          .at = at,
          .type = std::move(type),
          .instance = {"web", std::move(id)},
          .generation = 7,
          .message = "a message",
          .cause = "GET / from 10.0.0.1",
          .exit_code = 3};
}

std::vector<Event> Read(Store& store, EventQuery query) {
  StatusOr<std::vector<Event>> events = Await(store.ReadEvents(std::move(query)));
  INFO(events.status().ToString());
  REQUIRE(events.ok());
  return *std::move(events);
}

std::vector<int64_t> Numbers(Store& store, EventQuery query) {
  std::vector<int64_t> numbers;
  for (const Event& event : Read(store, std::move(query))) numbers.push_back(event.number);
  return numbers;
}

TEST_CASE("an event comes back as it was written, also before it is on disk") {
  TemporaryFolder folder;
  auto store = OpenStore(folder.StatePath());
  store->WriteBehind({PutEvent{MakeEvent(5)}});
  std::vector<Event> events = Read(*store, {});
  REQUIRE(events.size() == 1);
  CHECK(events[0].number == 5);
  CHECK(events[0].at == kStart);
  CHECK(events[0].type == "wake");
  CHECK(events[0].instance == InstanceName{"web", "alice"});
  CHECK(events[0].generation == 7);
  CHECK(events[0].message == "a message");
  CHECK(events[0].cause == "GET / from 10.0.0.1");
  CHECK(events[0].exit_code == 3);
}

TEST_CASE("events are picked by number, time, type and instance, the newest or the oldest") {
  TemporaryFolder folder;
  auto store = OpenStore(folder.StatePath());
  for (int i = 1; i <= 10; ++i) {
    store->WriteBehind({PutEvent{
        MakeEvent(i, kStart + i * 1s, i % 2 == 0 ? "bob" : "alice", i > 8 ? "slept" : "wake")}});
  }
  CHECK(Numbers(*store, {.limit = 3}) == std::vector<int64_t>{8, 9, 10});
  CHECK(Numbers(*store, {.limit = 3, .pick = EventQuery::Pick::kOldest}) ==
        std::vector<int64_t>{1, 2, 3});
  CHECK(Numbers(*store, {.after = 3, .before = 6}) == std::vector<int64_t>{4, 5});
  CHECK(Numbers(*store, {.since = kStart + 9s}) == std::vector<int64_t>{9, 10});
  CHECK(Numbers(*store, {.instance = {"web", "bob"}, .after = 4}) ==
        std::vector<int64_t>{6, 8, 10});
  CHECK(Numbers(*store, {.instance = {"web", ""}, .after = 8}) == std::vector<int64_t>{9, 10});
  CHECK(Numbers(*store, {.instance = {"other", ""}}).empty());
  CHECK(Numbers(*store, {.types = {"slept", "exited"}}) == std::vector<int64_t>{9, 10});
  CHECK(Numbers(*store, {.types = {"sle"}}).empty());
}

TEST_CASE("events are bounded by count, and the oldest go") {
  TemporaryFolder folder;
  auto store = OpenStore(folder.StatePath());
  constexpr int64_t kCount = kMaxEvents + 5'000;
  for (int64_t from = 1; from <= kCount; from += 1'000) {
    std::vector<Change> changes;
    for (int64_t i = from; i < from + 1'000; ++i) changes.push_back(PutEvent{MakeEvent(i)});
    REQUIRE(Commit(*store, std::move(changes)).ok());
  }
  std::vector<int64_t> kept = Numbers(*store, {.limit = static_cast<int>(kCount)});
  CHECK(kept.size() <= kMaxEvents + 500);
  CHECK(kept.size() >= kMaxEvents);
  CHECK(kept.back() == kCount);
  CHECK(kept.back() - kept.front() == static_cast<int64_t>(kept.size()) - 1);
}

TEST_CASE("a gap in the numbers, as a killed agent leaves, drives nothing out") {
  TemporaryFolder folder;
  auto store = OpenStore(folder.StatePath());
  REQUIRE(Commit(*store, {PutEvent{MakeEvent(1)}}).ok());
  for (int64_t i = 0; i < 1'200; ++i) {
    store->WriteBehind({PutEvent{MakeEvent(10 * kMaxEvents + i)}});
  }
  CHECK(Numbers(*store, {.limit = 5'000}).size() == 1'201);
}

TEST_CASE("events are bounded by age, from the oldest on") {
  TemporaryFolder folder;
  auto store = OpenStore(folder.StatePath());
  std::vector<Change> changes;
  for (int64_t i = 1; i <= 100; ++i) changes.push_back(PutEvent{MakeEvent(i, kStart)});
  REQUIRE(Commit(*store, std::move(changes)).ok());
  const WallTime later = kStart + std::chrono::duration_cast<WallTime::duration>(kMaxEventAge);
  for (int64_t i = 101; i <= 1'200; ++i) {
    store->WriteBehind({PutEvent{MakeEvent(i, later + 1s)}});
  }
  CHECK(Numbers(*store, {.limit = 5'000}).front() == 101);
}

TEST_CASE("the newest number outlives the store") {
  TemporaryFolder folder;
  {
    auto store = OpenStore(folder.StatePath());
    CHECK(Load(*store).last_event == 0);
    store->WriteBehind({PutEvent{MakeEvent(41)}, PutEvent{MakeEvent(42)}});
  }
  auto store = OpenStore(folder.StatePath());
  CHECK(Load(*store).last_event == 42);
}

TEST_CASE("an instance's events are found by the index, not by a look through all") {
  TemporaryFolder folder;
  auto store = OpenStore(folder.StatePath());
  StatusOr<sqlite::Database> database = sqlite::Database::Open(folder.StatePath());
  REQUIRE(database.ok());
  StatusOr<sqlite::Statement> plan = database->Prepare(
      "EXPLAIN QUERY PLAN SELECT number FROM events WHERE number > 1 AND number < 9 AND "
      "class = 'web' AND id = 'alice' ORDER BY number DESC LIMIT 5");
  REQUIRE(plan.ok());
  std::string text;
  REQUIRE(plan->RunEach([&] { text += plan->Text(3); }).ok());
  CHECK(text.find("events_of_instance") != std::string::npos);
}

}  // namespace
}  // namespace ctr
