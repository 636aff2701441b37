// Thousands of runs of the supervisor in a simulated world, each from one seed. CTR_SIM_RUNS says
// how many, CTR_SIM_SEED=N runs seed N alone, with its steps.
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "tests/unit/sim/sim_world.h"

namespace ctr::sim {
namespace {

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CTR_SIM_SANITIZED 1
#endif
#endif
#ifdef CTR_SIM_SANITIZED
constexpr int kRuns = 100;
#else
constexpr int kRuns = 10'000;
#endif

std::string RunSeed(uint64_t seed) {
  std::string failure = SimWorld(seed, std::getenv("CTR_SIM_TELL") != nullptr).Run();
  if (failure.empty()) return "";
  // Once more, to tell how it came to that.
  SimWorld again(seed, true);
  const std::string same = again.Run();
  std::string report = failure;
  for (const std::string& step : again.steps()) report += "\n  " + step;
  if (same != failure) report += "\n  (run again it ends otherwise: " + same + ")";
  return report + "\n  run it alone with CTR_SIM_SEED=" + std::to_string(seed);
}

int NumberFrom(const char* variable, int otherwise) {
  const char* text = std::getenv(variable);
  return text == nullptr ? otherwise : std::atoi(text);
}

std::vector<uint64_t> SeedsThatFailedOnce() {
  std::vector<uint64_t> seeds;
  std::ifstream file(CTR_SOURCE_DIR "/tests/unit/sim/seeds.txt");
  for (std::string line; std::getline(file, line);) {
    if (!line.empty() && line.front() != '#') seeds.push_back(std::stoull(line));
  }
  return seeds;
}

TEST_CASE("the seeds that once failed keep every promise") {
  for (uint64_t seed : SeedsThatFailedOnce()) {
    std::string failure = RunSeed(seed);
    CHECK_MESSAGE(failure.empty(), failure);
  }
}

TEST_CASE("whatever fails, the supervisor keeps its promises") {
  const int only = NumberFrom("CTR_SIM_SEED", 0);
  const int runs = only != 0 ? 1 : NumberFrom("CTR_SIM_RUNS", kRuns);
  const int first = only != 0 ? only : NumberFrom("CTR_SIM_FIRST", 1);
  // One failure is enough to look at, and CTR_SIM_KEEP_GOING counts them.
  const int bound = NumberFrom("CTR_SIM_KEEP_GOING", 1);
  int failures = 0;
  for (int i = 0; i < runs && failures < bound; ++i) {
    std::string failure = RunSeed(static_cast<uint64_t>(first + i));
    if (!failure.empty()) ++failures;
    CHECK_MESSAGE(failure.empty(), failure);
  }
}

TEST_CASE("a run is the same for the same seed") {
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    SimWorld one(seed, true);
    one.Run();
    const std::deque<std::string> steps = one.steps();
    SimWorld other(seed, true);
    other.Run();
    CHECK(steps == other.steps());
    CHECK(one.lasted() == other.lasted());
  }
}

}  // namespace
}  // namespace ctr::sim
