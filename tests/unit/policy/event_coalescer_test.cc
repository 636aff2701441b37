#include "agent/policy/event_coalescer.h"

#include <doctest/doctest.h>

namespace ctr::policy::event_coalescer_test {
namespace {

using namespace std::chrono_literals;

const MonoTime kNow = MonoTime(1h);

Event Refused(const std::string& message, const std::string& id = "alice") {
  Event event;
  event.type = event::kRefused;
  event.instance = {"web", id};
  event.message = message;
  return event;
}

TEST_CASE("the first event of a kind is told at once, its repetitions as one at the window's end") {
  EventCoalescer coalescer;
  CHECK(coalescer.Add(Refused("overloaded: full"), 1, kNow)->message == "overloaded: full");
  CHECK_FALSE(coalescer.next_due());
  CHECK_FALSE(coalescer.Add(Refused("overloaded: full"), 1, kNow + 1s));
  CHECK_FALSE(coalescer.Add(Refused("overloaded: full"), 5, kNow + 9s));
  CHECK(coalescer.next_due() == kNow + 10s);
  CHECK(coalescer.TakeDue(kNow + 10s - 1ns).empty());
  std::vector<Event> due = coalescer.TakeDue(kNow + 10s);
  REQUIRE(due.size() == 1);
  CHECK(due[0].message == "overloaded: full (6 more within 10s)");
  CHECK(due[0].instance.id == "alice");
  CHECK_FALSE(coalescer.next_due());
}

TEST_CASE("a flood that goes on is one event a window") {
  EventCoalescer coalescer;
  size_t told = 0;
  for (MonoTime now = kNow; now < kNow + 60s; now += 10ms) {
    told += coalescer.Add(Refused("overloaded: full"), 1, now).has_value() ? 1 : 0;
    told += coalescer.TakeDue(now).size();
  }
  told += coalescer.TakeAll().size();
  CHECK(told == 7);
}

TEST_CASE("what comes after a quiet window is told at once again") {
  EventCoalescer coalescer;
  CHECK(coalescer.Add(Refused("overloaded: full"), 1, kNow));
  CHECK_FALSE(coalescer.Add(Refused("overloaded: full"), 1, kNow + 10s - 1ns));
  CHECK(coalescer.TakeDue(kNow + 10s).size() == 1);
  CHECK(coalescer.TakeDue(kNow + 20s).empty());
  CHECK(coalescer.Add(Refused("overloaded: full"), 1, kNow + 20s));
}

TEST_CASE("kinds are told apart by type, instance, generation and message") {
  EventCoalescer coalescer;
  Event renewed = Refused("", "alice");
  renewed.type = event::kRenewed;
  Event later = renewed;
  later.generation = 2;
  CHECK(coalescer.Add(renewed, 1, kNow));
  CHECK_FALSE(coalescer.Add(renewed, 1, kNow));
  CHECK(coalescer.Add(later, 1, kNow));
  CHECK(coalescer.Add(Refused("overloaded: full", "alice"), 1, kNow));
  CHECK(coalescer.Add(Refused("overloaded: full", "bob"), 1, kNow));
  CHECK(coalescer.Add(Refused("manual_start: no", "bob"), 1, kNow));
}

TEST_CASE("a refusal's kind is its code: what a client made up does not count") {
  EventCoalescer coalescer;
  CHECK(coalescer.Add(Refused("unknown_instance: there is no a", ""), 1, kNow));
  CHECK_FALSE(coalescer.Add(Refused("unknown_instance: there is no b", ""), 1, kNow));
}

TEST_CASE(
    "a disk that goes to and fro over its floor is one kind, however much is left each time") {
  EventCoalescer coalescer;
  const auto low = [](const char* message) {
    Event event;
    event.type = event::kDiskLow;
    event.message = message;
    return event;
  };
  CHECK(coalescer.Add(low("14 MiB were free"), 1, kNow));
  CHECK_FALSE(coalescer.Add(low("13 MiB were free"), 1, kNow + 1s));
}

TEST_CASE("steps of an instance's life are never held back") {
  EventCoalescer coalescer;
  for (const char* type : {event::kWake, event::kStarting, event::kHealthy, event::kExited,
                           event::kCreated, event::kDestroyed, event::kStartFailed}) {
    Event event = Refused("the same");
    event.type = type;
    for (int i = 0; i < 3; ++i) CHECK(coalescer.Add(event, 1, kNow));
  }
}

TEST_CASE("an event that stands for several counts the others") {
  EventCoalescer coalescer;
  CHECK(coalescer.Add(Refused("overloaded: full"), 4, kNow)->message == "overloaded: full");
  std::vector<Event> due = coalescer.TakeAll();
  REQUIRE(due.size() == 1);
  CHECK(due[0].message == "overloaded: full (3 more within 10s)");
}

TEST_CASE("a flood of ever new kinds is bounded, and what is beyond is counted together") {
  EventCoalescer coalescer;
  size_t told = 0;
  for (int i = 0; i < 100'000; ++i) {
    told += coalescer.Add(Refused("overloaded: full", std::to_string(i)), 1, kNow) ? 1 : 0;
  }
  CHECK(told == EventCoalescer::kMaxKinds + 1);
  std::vector<Event> due = coalescer.TakeAll();
  REQUIRE(due.size() == 1);
  CHECK(due[0].instance == InstanceName());
  CHECK(due[0].message.find("99743 more") != std::string::npos);
  CHECK(coalescer.Add(Refused("overloaded: full", "new"), 1, kNow + 10s)->instance.id == "new");
}

}  // namespace
}  // namespace ctr::policy::event_coalescer_test
