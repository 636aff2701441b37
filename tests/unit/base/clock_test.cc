#include "agent/base/clock.h"

#include <chrono>
#include <memory>
#include <string>

#include <doctest/doctest.h>

#include "tests/fakes/manual_clock.h"

using namespace std::chrono_literals;

namespace ctr {
namespace {

awaitable<void> WaitThenNote(Alarm& alarm, MonoTime time, std::string name, std::string& notes) {
  co_await alarm.WaitUntil(time);
  notes += name;
}

awaitable<void> SleepThenNote(Clock& clock, MonoTime time, std::string name, std::string& notes) {
  co_await clock.SleepUntil(time);
  notes += name;
}

constexpr Duration kNever = 24h;

}  // namespace

TEST_CASE("an alarm returns at its time") {
  SystemClock clock;
  asio::io_context io{1};
  auto alarm = clock.MakeAlarm(io.get_executor());
  std::string notes;
  const MonoTime time = clock.Now() + 20ms;
  asio::co_spawn(io, WaitThenNote(*alarm, time, "a", notes), asio::detached);
  io.run();
  CHECK(notes == "a");
  CHECK(clock.Now() >= time);
}

TEST_CASE("an alarm that is rung returns at once") {
  SystemClock clock;
  asio::io_context io{1};
  auto alarm = clock.MakeAlarm(io.get_executor());
  std::string notes;
  asio::co_spawn(io, WaitThenNote(*alarm, clock.Now() + kNever, "a", notes), asio::detached);
  io.poll();
  CHECK(notes.empty());
  alarm->Ring();
  io.run();
  CHECK(notes == "a");
}

TEST_CASE("a ring before the wait is not lost, and counts once") {
  SystemClock clock;
  asio::io_context io{1};
  auto alarm = clock.MakeAlarm(io.get_executor());
  std::string notes;
  alarm->Ring();
  alarm->Ring();
  asio::co_spawn(io, WaitThenNote(*alarm, clock.Now() + kNever, "a", notes), asio::detached);
  io.poll();
  CHECK(notes == "a");
  io.restart();
  asio::co_spawn(io, WaitThenNote(*alarm, clock.Now() + kNever, "b", notes), asio::detached);
  io.poll();
  CHECK(notes == "a");
  alarm->Ring();
  io.run();
  CHECK(notes == "ab");
}

TEST_CASE("SleepUntil returns at once for a time that has passed") {
  SystemClock clock;
  asio::io_context io{1};
  std::string notes;
  asio::co_spawn(io, SleepThenNote(clock, clock.Now() - 1h, "a", notes), asio::detached);
  io.run();
  CHECK(notes == "a");
}

TEST_CASE("time moved by hand wakes sleepers in the order of their times, and only those due") {
  ManualClock clock;
  asio::io_context io{1};
  std::string notes;
  for (auto [name, delay] : {std::pair{"c", 30s}, {"a", 10s}, {"b", 20s}, {"d", 40s}}) {
    asio::co_spawn(io, SleepThenNote(clock, clock.Now() + delay, name, notes), asio::detached);
  }
  io.poll();
  const WallTime wall = clock.Wall();
  clock.Advance(30s);
  io.poll();
  CHECK(notes == "abc");
  CHECK(clock.Wall() - wall == 30s);
  clock.Advance(10s);
  io.poll();
  CHECK(notes == "abcd");
}

TEST_CASE("an alarm of the manual clock keeps a ring, and rings while it waits") {
  ManualClock clock;
  asio::io_context io{1};
  auto alarm = clock.MakeAlarm(io.get_executor());
  std::string notes;
  alarm->Ring();
  asio::co_spawn(io, WaitThenNote(*alarm, clock.Now() + kNever, "a", notes), asio::detached);
  io.poll();
  CHECK(notes == "a");
  io.restart();
  asio::co_spawn(io, WaitThenNote(*alarm, clock.Now() + kNever, "b", notes), asio::detached);
  io.poll();
  CHECK(notes == "a");
  alarm->Ring();
  io.poll();
  CHECK(notes == "ab");
}

}  // namespace ctr
