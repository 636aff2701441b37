#include "agent/policy/nearest.h"

#include <limits>
#include <random>
#include <vector>

#include <doctest/doctest.h>

namespace ctr::policy::nearest_test {
namespace {

using namespace std::chrono_literals;
using Outcome = Choice::Outcome;

const MonoTime kNow = MonoTime(1000h);

Candidate Ready(Duration latency, uint64_t in_flight = 0) {
  Candidate candidate;
  candidate.in_flight = in_flight;
  candidate.latency = WithSample({}, latency, kNow);
  candidate.healthy = true;
  return candidate;
}

Candidate New(uint64_t in_flight = 0) {
  Candidate candidate;
  candidate.in_flight = in_flight;
  candidate.healthy = true;
  return candidate;
}

// How often each of them is chosen.
std::vector<int> Draw(const std::vector<Candidate>& candidates, int draws) {
  std::mt19937_64 random(1);
  std::vector<int> chosen(candidates.size());
  for (int i = 0; i < draws; ++i) ++chosen[Choose(candidates, kNow, random()).index];
  return chosen;
}

size_t Chosen(const std::vector<Candidate>& candidates) {
  const Choice choice = Choose(candidates, kNow, 42);
  REQUIRE(choice.outcome == Outcome::kChosen);
  return choice.index;
}

Verdict VerdictOn(size_t index, const std::vector<Candidate>& candidates) {
  return Explain(candidates, kNow, 42).candidates[index].verdict;
}

TEST_CASE("the lowest of latency times in flight + 1 is chosen") {
  CHECK(Chosen({Ready(20ms), Ready(10ms), Ready(30ms)}) == 1);
  CHECK(Chosen({Ready(10ms, 2), Ready(20ms, 1), Ready(50ms, 0)}) == 0);  // 30, 40, 50
  CHECK(Chosen({Ready(10ms, 5), Ready(20ms, 2), Ready(50ms, 0)}) == 2);  // 60, 60, 50
}

TEST_CASE("distance is added to the cost") {
  std::vector<Candidate> candidates = {Ready(10ms), Ready(10ms)};
  candidates[0].distance = 1ms;
  CHECK(Chosen(candidates) == 1);
  candidates[1].in_flight = 1;  // 20 against 11
  CHECK(Chosen(candidates) == 0);
  candidates[0].distance = 11ms;
  CHECK(Chosen(candidates) == 1);
}

TEST_CASE("equal ones share the load") {
  for (int count : Draw(std::vector<Candidate>(8, Ready(10ms, 3)), 8000)) {
    CHECK(count > 850);
    CHECK(count < 1150);
  }
}

TEST_CASE("equal ones share the load also beside others, wherever they stand") {
  const std::vector<int> chosen =
      Draw({Ready(20ms), Ready(10ms), Ready(10ms), Ready(30ms), New(9), Ready(10ms)}, 3000);
  for (size_t i : {1, 2, 5}) {
    CHECK(chosen[i] > 880);
    CHECK(chosen[i] < 1120);
  }
}

TEST_CASE("nobody is chosen from none, from unhealthy ones and from full ones") {
  CHECK(Choose({}, kNow, 1).outcome == Outcome::kNoneHealthy);
  CHECK(Explain({}, kNow, 1).candidates.empty());
  std::vector<Candidate> candidates(2, Ready(10ms, 4));
  for (Candidate& candidate : candidates) candidate.healthy = false;
  CHECK(Choose(candidates, kNow, 1).outcome == Outcome::kNoneHealthy);
  candidates[1].healthy = true;
  candidates[1].max_concurrency = 4;
  CHECK(Choose(candidates, kNow, 1).outcome == Outcome::kAllFull);
  CHECK(VerdictOn(0, candidates) == Verdict::kUnhealthy);
  CHECK(VerdictOn(1, candidates) == Verdict::kFull);
}

TEST_CASE("one candidate is chosen if it can serve at all") {
  Candidate only = Ready(1h, 1'000'000);
  only.overloaded = only.ejected = true;
  only.oldest_in_flight = 24h;
  CHECK(Chosen({only}) == 0);
}

TEST_CASE("max_concurrency is a hard limit, whatever the others are like") {
  std::vector<Candidate> candidates = {Ready(1ms, 10), Ready(10s, 100)};
  candidates[1].overloaded = candidates[1].ejected = true;
  candidates[0].max_concurrency = 11;
  CHECK(Chosen(candidates) == 0);
  candidates[0].max_concurrency = 10;
  CHECK(Chosen(candidates) == 1);
  candidates[0].in_flight = 11;
  CHECK(Chosen(candidates) == 1);
  CHECK(VerdictOn(0, candidates) == Verdict::kFull);
}

TEST_CASE("an overloaded one is out while another can serve, however much dearer that is") {
  std::vector<Candidate> candidates = {Ready(1ms), Ready(10s, 50)};
  candidates[0].overloaded = true;
  CHECK(Chosen(candidates) == 1);
  CHECK(VerdictOn(0, candidates) == Verdict::kOverloaded);
  candidates[1].max_concurrency = 50;
  CHECK(Chosen(candidates) == 0);
  candidates[1].max_concurrency = 0;
  candidates[1].healthy = false;
  CHECK(Chosen(candidates) == 0);
}

TEST_CASE("when all are overloaded, or all are ejected, the cheapest of them serves") {
  std::vector<Candidate> candidates = {Ready(20ms), Ready(10ms), Ready(30ms)};
  for (Candidate& candidate : candidates) candidate.overloaded = true;
  CHECK(Chosen(candidates) == 1);
  for (Candidate& candidate : candidates) candidate.ejected = true;
  CHECK(Chosen(candidates) == 1);
  for (Candidate& candidate : candidates) candidate.overloaded = false;
  CHECK(Chosen(candidates) == 1);
  CHECK(VerdictOn(0, candidates) == Verdict::kDearer);
}

TEST_CASE("an overloaded one serves before an ejected one, and that before one that is both") {
  std::vector<Candidate> candidates = {Ready(1ms), Ready(1ms), Ready(1s)};
  candidates[0].ejected = candidates[0].overloaded = true;
  candidates[1].ejected = true;
  candidates[2].overloaded = true;
  CHECK(Chosen(candidates) == 2);
  CHECK(VerdictOn(0, candidates) == Verdict::kEjected);
  CHECK(VerdictOn(1, candidates) == Verdict::kEjected);
  candidates[2].healthy = false;
  CHECK(Chosen(candidates) == 1);
  CHECK(VerdictOn(0, candidates) == Verdict::kOverloaded);
}

TEST_CASE("an instance that has stalled becomes dearer though it never answers") {
  std::vector<Candidate> candidates = {Ready(1ms, 1), Ready(50ms, 1)};
  CHECK(Chosen(candidates) == 0);
  candidates[0].oldest_in_flight = 49ms;
  CHECK(Chosen(candidates) == 0);
  candidates[0].oldest_in_flight = 51ms;
  CHECK(Chosen(candidates) == 1);
  // An age of what is not in flight any more is a race between two loads.
  candidates[0].in_flight = 0;
  CHECK(Chosen(candidates) == 0);
}

TEST_CASE("a new instance gets one request at once, and no flood before it has answered") {
  CHECK(Chosen({Ready(1ms), New()}) == 1);
  // Then it counts as twice as slow as the fastest known.
  CHECK(Chosen({Ready(10ms, 1), Ready(15ms, 9), New(1)}) == 0);  // 20 against 2 * 10 * 2
  CHECK(Chosen({Ready(10ms, 4), Ready(15ms, 9), New(1)}) == 2);  // 50 against 40
  CHECK(Chosen({Ready(10ms, 4), Ready(15ms, 9), New(2)}) == 0);  // 50 against 60
}

TEST_CASE("where all are new the fewest in flight wins") {
  CHECK(Chosen({New(3), New(1), New(2)}) == 1);
  CHECK(Chosen({New(3), New(1), New(0)}) == 2);
  CHECK(Explain(std::vector{New(1)}, kNow, 1).candidates[0].latency == 30ms);
}

TEST_CASE("a new instance that stalls on its first request is seen by that request's age") {
  std::vector<Candidate> candidates = {Ready(10ms, 20), New(1)};
  CHECK(Chosen(candidates) == 1);
  candidates[1].oldest_in_flight = 1s;
  CHECK(Chosen(candidates) == 0);
}

TEST_CASE("the latency of an unhealthy one says nothing of what a new one may need") {
  std::vector<Candidate> candidates = {Ready(10us), Ready(100ms), New(2)};
  candidates[0].healthy = false;
  CHECK(Explain(candidates, kNow, 1).candidates[2].latency == 200ms);
  CHECK(Chosen(candidates) == 1);
}

TEST_CASE("huge and nonsensical inputs choose somebody") {
  constexpr uint64_t kMany = std::numeric_limits<uint64_t>::max();
  Candidate huge = Ready(Duration::max(), kMany);
  huge.oldest_in_flight = huge.distance = Duration::max();
  CHECK(Chosen({huge, huge}) <= 1);
  CHECK(Chosen({huge, Ready(1s)}) == 1);
  CHECK(Explain(std::vector{huge}, kNow, 1).candidates[0].cost > 24h * 365 * 200);
  Candidate negative = Ready(10ms, 1);
  negative.oldest_in_flight = negative.distance = Duration::min();
  CHECK(Explain(std::vector{negative}, kNow, 1).candidates[0].cost == 20ms);
  Candidate broken = New(1);
  broken.latency = {std::numeric_limits<double>::quiet_NaN(), kNow};
  CHECK(Chosen({broken, Ready(1ms)}) == 1);
  broken.latency.average_ns = std::numeric_limits<double>::infinity();
  CHECK(Chosen({broken}) == 0);
  CHECK(Chosen({broken, Ready(1ms)}) == 1);
}

TEST_CASE("the past does not outlive its decay, and time going backwards changes nothing") {
  std::vector<Candidate> candidates = {Ready(1s), Ready(100ms)};
  candidates[1].latency.sampled_at = kNow + 1h;
  CHECK(Choose(candidates, kNow, 1).index == 1);
  CHECK(Choose(candidates, kNow + 1min, 1).index == 0);
  CHECK(Choose(candidates, kNow - 1h, 1).index == 1);
}

TEST_CASE("Explain says what Choose does, and why each other one was not taken") {
  std::vector<Candidate> candidates(8, Ready(10ms, 1));
  candidates[0].healthy = false;
  candidates[1].max_concurrency = 1;
  candidates[2].overloaded = true;
  candidates[3].ejected = true;
  candidates[4] = Ready(20ms, 3);
  candidates[5].distance = 5ms;
  for (uint64_t bits = 0; bits < 100; ++bits) {
    const Explanation explanation = Explain(candidates, kNow, bits);
    CHECK(explanation.choice == Choose(candidates, kNow, bits));
    REQUIRE(explanation.candidates.size() == 8);
    CHECK(explanation.candidates[0].verdict == Verdict::kUnhealthy);
    CHECK(explanation.candidates[1].verdict == Verdict::kFull);
    CHECK(explanation.candidates[2].verdict == Verdict::kOverloaded);
    CHECK(explanation.candidates[3].verdict == Verdict::kEjected);
    CHECK(explanation.candidates[4].verdict == Verdict::kDearer);
    CHECK(explanation.candidates[4].latency == 20ms);
    CHECK(explanation.candidates[4].cost == 80ms);
    CHECK(explanation.candidates[5].cost == 25ms);
    const size_t other = explanation.choice.index == 6 ? 7 : 6;
    CHECK(explanation.candidates[explanation.choice.index].verdict == Verdict::kChosen);
    CHECK(explanation.candidates[other].verdict == Verdict::kEqual);
  }
}

TEST_CASE("whatever the states are, the chosen one is of the best that can serve") {
  std::mt19937_64 random(7);
  for (int round = 0; round < 20'000; ++round) {
    std::vector<Candidate> candidates(random() % 9);
    for (Candidate& candidate : candidates) {
      candidate =
          random() % 4 == 0 ? New(random() % 4) : Ready((1 + random() % 3) * 10ms, random() % 4);
      candidate.max_concurrency = static_cast<uint32_t>(random() % 4);
      candidate.healthy = random() % 4 != 0;
      candidate.overloaded = random() % 2 != 0;
      candidate.ejected = random() % 2 != 0;
    }
    const Explanation explanation = Explain(candidates, kNow, random());
    const auto rank = [&](size_t i) {
      const Candidate& c = candidates[i];
      const bool full = c.max_concurrency != 0 && c.in_flight >= c.max_concurrency;
      return !c.healthy || full ? 4 : 2 * c.ejected + c.overloaded;
    };
    int best = 4;
    for (size_t i = 0; i < candidates.size(); ++i) best = std::min(best, rank(i));
    REQUIRE((explanation.choice.outcome == Outcome::kChosen) == (best < 4));
    if (best == 4) continue;
    const size_t index = explanation.choice.index;
    REQUIRE(rank(index) == best);
    for (size_t i = 0; i < candidates.size(); ++i) {
      if (rank(i) != best) continue;
      REQUIRE(explanation.candidates[index].cost <= explanation.candidates[i].cost);
    }
  }
}

}  // namespace
}  // namespace ctr::policy::nearest_test
