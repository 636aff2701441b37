#include "agent/policy/readiness.h"

#include <algorithm>
#include <string_view>

#include <doctest/doctest.h>

namespace ctr::policy::readiness_test {
namespace {

using namespace std::chrono_literals;
using Result = Check::Result;

const MonoTime kStart = MonoTime(1000h);
const ReadinessThresholds kDefault;

// Checks an interval apart, from a second after the start: + passed, - failed, t timed out.
Readiness After(std::string_view results, const ReadinessThresholds& thresholds = kDefault,
                Readiness readiness = NewReadiness(kStart)) {
  MonoTime at = readiness.last ? readiness.last->begun + 1s : kStart + 1s;
  for (char c : results) {
    const Result result =
        c == '+' ? Result::kPassed : (c == 't' ? Result::kTimedOut : Result::kFailed);
    readiness = WithCheck(readiness, {result, at, at + 2ms}, thresholds);
    at += 1s;
  }
  return readiness;
}

TEST_CASE("an instance is not ready before its check has passed, then it is") {
  CHECK_FALSE(NewReadiness(kStart).passing);
  CHECK_FALSE(After("-----").passing);
  CHECK(After("+").passing);
  CHECK(After("------+").passing);
}

TEST_CASE("three failures in a row take it out, two do not, and one success puts it back") {
  CHECK(After("+--").passing);
  CHECK(After("+--+--").passing);
  CHECK_FALSE(After("+---").passing);
  CHECK_FALSE(After("+------").passing);
  CHECK(After("+---+").passing);
}

TEST_CASE("a check that timed out has failed") {
  CHECK(After("+t-").passing);
  CHECK_FALSE(After("+t-t").passing);
}

TEST_CASE("with successes = 2 it takes two in a row, at the start and later") {
  const ReadinessThresholds two = {.successes = 2};
  CHECK_FALSE(After("+", two).passing);
  CHECK_FALSE(After("+-+-+", two).passing);
  CHECK(After("+-++", two).passing);
  CHECK_FALSE(After("++---+", two).passing);
  CHECK(After("++---++", two).passing);
}

TEST_CASE("thresholds below one count as one") {
  const ReadinessThresholds none = {
      .interval = 0s, .timeout = 0s, .failures = 0, .successes = -5, .restart_after = 0};
  CHECK_FALSE(After("", none).passing);
  CHECK(After("+", none).passing);
  CHECK_FALSE(After("+-", none).passing);
  CHECK(WantsRestart(After("+-", none), none));
  // Nor is it checked without a pause.
  const Readiness readiness = After("+", none);
  CHECK(*NextCheckAt(readiness, none, true, readiness.last->ended) > readiness.last->ended);
}

TEST_CASE("the first check is due at once") {
  CHECK(NextCheckAt(NewReadiness(kStart), kDefault, true, kStart) == kStart);
  CHECK(NextCheckAt(NewReadiness(kStart), kDefault, true, kStart + 3s) == kStart + 3s);
}

TEST_CASE("once it has passed, checks begin an interval apart, however long each takes") {
  Readiness readiness = After("+");
  const MonoTime begun = readiness.last->begun;
  CHECK(NextCheckAt(readiness, kDefault, true, begun + 2ms) == begun + 1s);
  readiness = WithCheck(readiness, {Result::kFailed, begun + 1s, begun + 1900ms}, kDefault);
  CHECK(NextCheckAt(readiness, kDefault, true, begun + 1900ms) == begun + 2s);
  // Also while it is out.
  readiness = After("+-----");
  CHECK(NextCheckAt(readiness, kDefault, true, readiness.last->ended) ==
        readiness.last->begun + 1s);
}

TEST_CASE("a check that took longer than the interval is followed by the next at once") {
  Readiness readiness = After("+");
  const MonoTime begun = readiness.last->begun + 1s;
  readiness = WithCheck(readiness, {Result::kTimedOut, begun, begun + 5s}, kDefault);
  CHECK(NextCheckAt(readiness, kDefault, true, begun + 5s) == begun + 5s);
}

TEST_CASE("a check that is overdue is due now") {
  const Readiness readiness = After("+");
  CHECK(NextCheckAt(readiness, kDefault, true, kStart + 1h) == kStart + 1h);
}

// When an instance that can answer from `ready_at` is seen to be ready, checks taking 1 ms.
Duration SeenAfter(Duration ready_at, const ReadinessThresholds& thresholds, int* checks) {
  Readiness readiness = NewReadiness(kStart);
  MonoTime now = kStart;
  for (*checks = 0; !readiness.passing; ++*checks) {
    now = *NextCheckAt(readiness, thresholds, true, now);
    const Result result = now - kStart >= ready_at ? Result::kPassed : Result::kFailed;
    readiness = WithCheck(readiness, {result, now, now + 1ms}, thresholds);
    now += 1ms;
  }
  return now - kStart;
}

TEST_CASE("during the start readiness is noticed at most 5 % late, with few checks") {
  int checks = 0;
  for (Duration ready_at : {1ms, 50ms, 100ms, 333ms, 1s + 0ms, 5s + 0ms, 19s + 0ms}) {
    const Duration late = SeenAfter(ready_at, kDefault, &checks) - ready_at;
    CHECK(late <= std::max<Duration>(8ms, ready_at / 20 + 2ms));
    CHECK(checks < 140);
  }
  // Later no closer than the interval, which a long start reaches.
  CHECK(SeenAfter(10min, kDefault, &checks) - 10min <= 1001ms);
}

TEST_CASE("an interval that is closer than the start's pace is kept in the start, too") {
  const ReadinessThresholds close = {.interval = 20ms};
  int checks = 0;
  CHECK(SeenAfter(10s, close, &checks) - 10s <= 21ms);
}

TEST_CASE("an interval without end is a day") {
  const ReadinessThresholds endless = {.interval = Duration::max()};
  const Readiness readiness = After("+", endless);
  CHECK(NextCheckAt(readiness, endless, true, kStart + 2s) == readiness.last->begun + 24h);
}

TEST_CASE("an instance that sleeps is not checked at all") {
  CHECK_FALSE(NextCheckAt(NewReadiness(kStart), kDefault, false, kStart));
  CHECK_FALSE(NextCheckAt(After("+"), kDefault, false, kStart + 1h));
  CHECK_FALSE(NextCheckAt(After("+---"), kDefault, false, kStart + 1h));
}

TEST_CASE("a thawed instance is what it was, and is checked at once") {
  const MonoTime thawed = kStart + 1h;
  const Readiness readiness = AfterThaw(After("+--"), thawed);
  CHECK(readiness.passing);
  CHECK(NextCheckAt(readiness, kDefault, true, thawed) == thawed);
  // The check that froze with it has timed out, which is not its fault.
  const Readiness late =
      WithCheck(readiness, {Result::kTimedOut, kStart + 4s, thawed + 1ms}, kDefault);
  CHECK(late.passing);
  CHECK(late.failures == 2);
  CHECK_FALSE(WithCheck(late, {Result::kFailed, thawed, thawed + 1ms}, kDefault).passing);
}

TEST_CASE("a result that comes from before this start says nothing") {
  const Readiness readiness =
      WithCheck(NewReadiness(kStart), {Result::kPassed, kStart - 1ms, kStart + 1ms}, kDefault);
  CHECK_FALSE(readiness.passing);
  CHECK_FALSE(readiness.last);
}

TEST_CASE("it is restarted after restart_after failures in a row, and by default never") {
  CHECK_FALSE(WantsRestart(After("+----------"), kDefault));
  const ReadinessThresholds five = {.restart_after = 5};
  CHECK_FALSE(WantsRestart(After("+----", five), five));
  CHECK(WantsRestart(After("+-----", five), five));
  CHECK_FALSE(WantsRestart(After("+----+----", five), five));
}

TEST_CASE("it is not restarted before it is out, nor while it starts") {
  const ReadinessThresholds hasty = {.restart_after = 1};
  CHECK_FALSE(WantsRestart(After("+--", hasty), hasty));
  CHECK(WantsRestart(After("+---", hasty), hasty));
  CHECK_FALSE(WantsRestart(After("--------", hasty), hasty));
}

TEST_CASE("time that goes backwards puts the next check off by no more than an interval") {
  const Readiness readiness = After("+");
  CHECK(NextCheckAt(readiness, kDefault, true, kStart - 1h) == kStart - 1h + 1s);
  const Readiness starting = After("-");
  CHECK(*NextCheckAt(starting, kDefault, true, kStart - 1h) <= kStart - 1h + 1s);
}

}  // namespace
}  // namespace ctr::policy::readiness_test
