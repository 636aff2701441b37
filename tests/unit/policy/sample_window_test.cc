#include "agent/policy/sample_window.h"

#include <vector>

#include <doctest/doctest.h>

namespace ctr::policy::sample_window_test {
namespace {

using namespace std::chrono_literals;

const MonoTime kStart = MonoTime(1000s) + 300ms;

// The numbers of this and the next cases are those of Knative's own tests (bucketing_test.go).
TEST_CASE("the average is over the seconds since the first sample, until the window is full") {
  WindowAverage window(5s);
  CHECK(window.IsEmpty(kStart));
  CHECK(window.Average(kStart) == 0);
  window.Record(kStart, 1);
  CHECK(window.Average(kStart) == 1);
  for (int i = 1; i < 5; ++i) window.Record(kStart + i * 1s, i + 1);
  CHECK(window.Average(kStart + 4s) == 15.0 / 5);
  SUBCASE("a look from before the newest sample sees it all") {
    CHECK(window.Average(kStart + 3600ms) == 15.0 / 5);
  }
  SUBCASE("seconds since the newest sample do not count, what they push out does not either") {
    CHECK(window.Average(kStart + 6s) == (15.0 - 1 - 2) / (5 - 2));
  }
  SUBCASE("after a window of silence it is zero") { CHECK(window.Average(kStart + 10s) == 0); }
  SUBCASE("a second without a sample between two counts as zero") {
    window.Record(kStart + 6s, 91);
    CHECK(window.Average(kStart + 6s) == (15.0 - 1 - 2 + 91) / 5);
  }
}

TEST_CASE("a sample after a whole window of silence begins anew") {
  WindowAverage window(5s);
  for (int i = 0; i < 5; ++i) window.Record(kStart + i * 1s, 3);
  MonoTime now = kStart + 1min;
  window.Record(now, 1984);
  CHECK(window.Average(now) == 1984);

  window.Record(now - 3s, 4);  // a sample from before it, but within the window
  CHECK(window.Average(now) == (4.0 + 1984) / 4);
  now += 1s;
  window.Record(now, 5);
  CHECK(window.Average(now) == (4.0 + 1984 + 5) / 5);
  window.Record(now - 3s, 10);
  CHECK(window.Average(now) == (4.0 + 10 + 1984 + 5) / 5);
  window.Record(now - 6s, 10);  // too old
  window.Record(now - 5s, 10);  // just too old
  CHECK(window.Average(now) == (4.0 + 10 + 1984 + 5) / 5);
  window.Record(now + 5s, 10);
  CHECK(window.Average(now + 5s) == 10);
}

TEST_CASE("samples that come in the wrong order are averaged as those in the right one") {
  WindowAverage window(5s);
  for (int i = 8; i >= 0; --i) window.Record(kStart + i * 1s, 5);
  CHECK(window.Average(kStart + 5s) == 5);
}

TEST_CASE("samples of one second add up") {
  WindowAverage window(60s);
  for (int second = 0; second < 5; ++second) {
    for (int i = 0; i < 5; ++i) window.Record(kStart + second * 1s, second + i);
  }
  CHECK(window.Average(kStart + 4s) == 100.0 / 5);
}

TEST_CASE("a resized window keeps what fits") {
  WindowAverage window(5s);
  for (int i = 0; i < 6; ++i) window.Record(kStart + i * 1s, i + 1);
  MonoTime now = kStart + 5s;
  CHECK(window.Average(now) == 20.0 / 5);
  window.Resize(10s, now);
  CHECK(window.window() == 10s);
  CHECK(window.Average(now) == 20.0 / 5);
  now += 1s;
  window.Record(now, 7);
  CHECK(window.Average(now) == 4.5);  // 27 / 6
  window.Resize(4s, now);
  CHECK(window.Average(now) == 22.0 / 4);
  window.Resize(10s, now + 1min);  // nothing in it is of use any more
  CHECK(window.IsEmpty(now + 1min));
  CHECK(window.Average(now) == 0);
}

TEST_CASE("it is empty once more than a window has passed") {
  WindowAverage window(5s);
  window.Record(kStart, 1);
  CHECK_FALSE(window.IsEmpty(kStart + 5s));
  CHECK(window.IsEmpty(kStart + 6s));
}

TEST_CASE("sums that went up and down again leave nothing") {
  WindowAverage window(3s);
  for (int i = 0; i < 1000; ++i) window.Record(kStart + i * 1s, 0.1 * i);
  for (int i = 1000; i < 1003; ++i) window.Record(kStart + i * 1s, 0);
  CHECK(window.Average(kStart + 1002s) == 0);
}

TEST_CASE("times before the clock's epoch are seconds like others") {
  CHECK(SecondOf(MonoTime(-1ns)) == -1);
  CHECK(SecondOf(MonoTime(-1s)) == -1);
  CHECK(SecondOf(MonoTime(999ms)) == 0);
  WindowAverage window(5s);
  for (int i = -7; i < 0; ++i) window.Record(MonoTime(i * 1s), 2);
  CHECK(window.Average(MonoTime(-1s)) == 2);
}

std::vector<int> Maxima(const std::vector<int>& values, const std::vector<int>& seconds) {
  WindowMax window(5s, 1s);
  std::vector<int> maxima;
  for (size_t i = 0; i < values.size(); ++i) {
    maxima.push_back(window.Record(kStart + seconds[i] * 1s, values[i]));
  }
  return maxima;
}

std::vector<int> Maxima(const std::vector<int>& values) {
  std::vector<int> seconds;
  for (size_t i = 0; i < values.size(); ++i) seconds.push_back(static_cast<int>(i));
  return Maxima(values, seconds);
}

// Knative's numbers (max/window_test.go).
TEST_CASE("the maximum is of the last five seconds") {
  using Ints = std::vector<int>;
  CHECK(Maxima({1}) == Ints{1});
  CHECK(Maxima({1, 2}) == Ints{1, 2});
  CHECK(Maxima({2, 1}) == Ints{2, 2});
  CHECK(Maxima({1, 2, 1}) == Ints{1, 2, 2});
  CHECK(Maxima({5, 6, 5, 5, 5, 5, 5}) == Ints{5, 6, 6, 6, 6, 6, 5});
  CHECK(Maxima({6, 5, 2, 1}, {0, 1, 2, 6}) == Ints{6, 6, 6, 2});
  CHECK(Maxima({5, 8, 5, 7, 5, 5, 1, 4, 4, 4, 4, 9, 3, 4, 2, 1, 0}) ==
        Ints{5, 8, 8, 8, 8, 8, 7, 7, 5, 5, 4, 9, 9, 9, 9, 9, 4});
}

TEST_CASE("of the values of one second the greatest counts") {
  using Ints = std::vector<int>;
  CHECK(Maxima({1, 2, 3}, {1, 1, 1}) == Ints{1, 2, 3});
  CHECK(Maxima({7, 6, 5}, {1, 1, 1}) == Ints{7, 7, 7});
}

TEST_CASE("for the maximum a clock that goes back stands still") {
  CHECK(Maxima({7, 6, 5, 5}, {10, 2, 3, 15}) == std::vector<int>{7, 7, 7, 5});
}

}  // namespace
}  // namespace ctr::policy::sample_window_test
