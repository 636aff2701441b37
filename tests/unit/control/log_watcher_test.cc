#include "agent/control/log_watcher.h"

#include <sys/resource.h>

#include <filesystem>

#include <doctest/doctest.h>

#include "tests/fakes/loop.h"
#include "tests/fakes/manual_clock.h"
#include "tests/fakes/temp_folder.h"

namespace ctr::log_watcher_test {
namespace {

struct CountingAlarm final : Alarm {
  awaitable<void> WaitUntil(MonoTime) override { co_return; }
  void Ring() override { ++rings; }
  int rings = 0;
};

class Fixture {
 public:
  ~Fixture() { io_.DropHandlers(); }

  void Turn() {
    io_.restart();
    io_.poll();
  }
  // Turns the loop until the kernel has told of something.
  void RunUntilRung() {
    while (alarm_.rings == 0) {
      io_.restart();
      io_.run_one_for(std::chrono::milliseconds(5));
    }
  }
  // What rings in the time, moved by hand.
  int RingsIn(Duration time) {
    alarm_.rings = 0;
    clock_.Advance(time);
    Turn();
    return alarm_.rings;
  }
  void CheckPolls(LogWatcher& watcher, const std::string& folder) {
    auto watch = watcher.Add(folder, &alarm_);
    Turn();
    CHECK(RingsIn(std::chrono::milliseconds(249)) == 0);
    CHECK(RingsIn(std::chrono::milliseconds(1)) == 1);
    CHECK(RingsIn(std::chrono::milliseconds(250)) == 1);
    watch.reset();
    CHECK(RingsIn(std::chrono::hours(1)) == 0);
  }

  Loop io_;
  ManualClock clock_;
  CountingAlarm alarm_;
  TempFolder folder_;
};

}  // namespace

TEST_CASE_FIXTURE(Fixture, "who follows a folder is told of changes, and not of time") {
  LogWatcher watcher(io_.get_executor(), clock_);
  auto watch = watcher.Add(folder_.path(), &alarm_);
  Turn();
  CHECK(RingsIn(std::chrono::hours(1)) == 0);
  folder_.Write("1", "x");
  RunUntilRung();
  watch.reset();
  folder_.Write("1", "y");
  CHECK(RingsIn(std::chrono::hours(1)) == 0);
}

TEST_CASE_FIXTURE(Fixture, "a folder that can't be watched is looked at four times a second") {
  LogWatcher watcher(io_.get_executor(), clock_);
  CheckPolls(watcher, folder_.path() / "nowhere");
}

TEST_CASE_FIXTURE(Fixture, "without any inotify, folders are looked at four times a second") {
  // As when another process of the same user has them all.
  rlimit usual{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &usual) == 0);
  const rlimit none{0, usual.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
  LogWatcher watcher(io_.get_executor(), clock_);
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &usual) == 0);
  CheckPolls(watcher, folder_.path());
}

}  // namespace ctr::log_watcher_test
