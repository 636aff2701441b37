#include "agent/policy/outlier.h"

#include <atomic>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

namespace ctr::policy::outlier_test {
namespace {

using namespace std::chrono_literals;

const MonoTime kNow = MonoTime(1000h);
const OutlierSet kFour = {4, 0};

Ejection Eject(const Ejection& before, MonoTime now) {
  const auto next = DecideEjection(before, kFour, now);
  REQUIRE(next);
  return *next;
}

TEST_CASE("five failures in a row eject, and a success in between begins anew") {
  FailureStreak streak;
  for (int i = 0; i < 4; ++i) CHECK_FALSE(streak.Note(true));
  CHECK_FALSE(streak.Note(false));
  for (int i = 0; i < 4; ++i) CHECK_FALSE(streak.Note(true));
  CHECK(streak.Note(true));
}

TEST_CASE("one that may not be ejected is asked about again after five more failures") {
  FailureStreak streak;
  int asked = 0;
  for (int i = 0; i < 25; ++i) asked += streak.Note(true);
  CHECK(asked == 5);
}

TEST_CASE("on trial one failure ejects again, until something succeeds") {
  FailureStreak streak;
  streak.BeginTrial();
  CHECK(streak.Note(true));
  streak.BeginTrial();
  CHECK_FALSE(streak.Note(false));
  for (int i = 0; i < 4; ++i) CHECK_FALSE(streak.Note(true));
  CHECK(streak.Note(true));
}

TEST_CASE("a new start is not on trial") {
  FailureStreak streak;
  streak.BeginTrial();
  streak.Reset();
  CHECK_FALSE(streak.Note(true));
}

TEST_CASE("failures that several loops count at once ask as often as the count says") {
  FailureStreak streak;
  std::atomic<int> asked = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 1000; ++i) asked += streak.Note(true);
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(asked == 800);
}

TEST_CASE("an ejection lasts 30 s, and then it is let in") {
  CHECK_FALSE(IsEjected({}, kNow));
  const Ejection first = Eject({}, kNow);
  CHECK(IsEjected(first, kNow));
  CHECK(IsEjected(first, kNow + 30s - 1ns));
  CHECK_FALSE(IsEjected(first, kNow + 30s));
}

TEST_CASE("each further ejection is 30 s longer, up to five minutes") {
  Ejection ejection;
  MonoTime now = kNow;
  for (int i = 1; i <= 100; ++i) {
    ejection = Eject(ejection, now);
    CHECK(ejection.until - now == std::min<Duration>(i * 30s, 5min));
    now = ejection.until;
  }
  CHECK(ejection.count <= 11);
}

TEST_CASE("every ten seconds in service undo one ejection") {
  const Ejection third = {.count = 3, .until = kNow};
  CHECK(EjectionsLeft(third, kNow - 5s) == 3);
  CHECK(EjectionsLeft(third, kNow + 9s) == 3);
  CHECK(EjectionsLeft(third, kNow + 10s) == 2);
  CHECK(EjectionsLeft(third, kNow + 1000h) == 0);
  CHECK(Eject(third, kNow + 1s).until == kNow + 1s + 120s);
  CHECK(Eject(third, kNow + 25s).until == kNow + 25s + 60s);
  CHECK(Eject(third, kNow + 1h).until == kNow + 1h + 30s);
}

TEST_CASE("one that is ejected is not ejected again, so late failures do not prolong it") {
  const Ejection first = Eject({}, kNow);
  CHECK_FALSE(DecideEjection(first, {4, 1}, kNow + 1s));
}

TEST_CASE("never more than half of the set is ejected") {
  for (size_t size = 0; size <= 65; ++size) {
    size_t ejected = 0;
    while (DecideEjection({}, {size, ejected}, kNow)) ++ejected;
    CHECK(ejected == size / 2);
  }
  CHECK_FALSE(DecideEjection({}, {1, 0}, kNow));
  // More are ejected than are left in the set.
  CHECK_FALSE(DecideEjection({}, {2, 5}, kNow));
}

TEST_CASE("time that goes backwards keeps it ejected, and counts as no time in service") {
  const Ejection first = Eject({}, kNow);
  CHECK(IsEjected(first, kNow - 1h));
  CHECK(EjectionsLeft(first, kNow - 1h) == 1);
}

TEST_CASE("settings that make no sense do no harm") {
  const OutlierConfig none = {.base = 0s, .most = -1s, .forget = 0s};
  CHECK(DecideEjection({}, kFour, kNow, none)->until == kNow + 1ms);
  const OutlierConfig huge = {
      .base = Duration::max() / 4, .most = Duration::max() / 4, .forget = 1s};
  CHECK(DecideEjection({.count = 1 << 30, .until = kNow}, kFour, kNow, huge)->until > kNow);
}

TEST_CASE("only what a gateway says failed counts") {
  for (int status : {200, 404, 429, 500, 501, 505}) CHECK_FALSE(IsGatewayFailure(status));
  for (int status : {502, 503, 504}) CHECK(IsGatewayFailure(status));
}

}  // namespace
}  // namespace ctr::policy::outlier_test
