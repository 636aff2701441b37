// What a choice costs, and what it gives: `scripts/bench choose`. Measures time, so it is no test.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <random>
#include <vector>

#include "agent/policy/nearest.h"
#include "tests/unit/policy/route_simulation.h"

namespace ctr::policy {
namespace {

// Nanoseconds of one choice among n, as many as that in flight: the median of 21 runs.
void MeasureCost(size_t n, bool with_new) {
  std::mt19937_64 random(1);
  const MonoTime now = std::chrono::steady_clock::now();
  std::vector<Candidate> candidates(n);
  for (Candidate& candidate : candidates) {
    candidate.in_flight = 1 + random() % 8;
    candidate.max_concurrency = 100;
    candidate.healthy = true;
    if (with_new && random() % 2 == 0) continue;
    const auto age = std::chrono::microseconds(random() % 10'000'000);
    candidate.latency =
        WithSample({}, std::chrono::microseconds(1000 + random() % 9000), now - age);
  }
  constexpr int kChoices = 20'000;
  std::vector<double> runs;
  size_t chosen = 0;
  for (int run = 0; run < 21; ++run) {
    const auto start = std::chrono::steady_clock::now();
    for (uint64_t i = 0; i < kChoices; ++i) {
      chosen += Choose(candidates, now + Duration(static_cast<int64_t>(i)), i << 40).index;
    }
    const Duration elapsed = std::chrono::steady_clock::now() - start;
    runs.push_back(static_cast<double>(elapsed.count()) / kChoices);
  }
  std::sort(runs.begin(), runs.end());
  std::printf("choice among %2zu%s: %5.0f ns (least %.0f, most %.0f; check sum %zu)\n", n,
              with_new ? ", half of them new" : "", runs[10], runs.front(), runs.back(),
              chosen % 97);
}

// The p99 in multiples of an instance's mean service time, at 60 % of capacity, one of eight ten
// times slower or none, where `at_once` data loops decide by the same counts.
void CompareChoices(SimConfig::Service service, int workers, int at_once) {
  constexpr double kService = 0.02;
  SimConfig config{.service = service, .decided_at_once = at_once};
  config.instances.assign(8, {.service_s = kService, .workers = workers});
  config.instances[0].service_s *= 10;
  config.arrivals_per_s = 0.6 * 7.1 * workers / kService;
  SimConfig without = config;
  without.instances.erase(without.instances.begin());
  const auto p99 = [](const SimConfig& simulated, const SimPolicy& policy) {
    return RouteSimulation(simulated, policy).Run().Quantile(0.99) / kService;
  };
  std::printf(
      "%-11s %d at once, %d deciding at once: full look %5.2f, two choices %5.2f, leastconn %5.2f; "
      "without the slow one %5.2f, %5.2f, %5.2f\n",
      service == SimConfig::Service::kExponential ? "exponential" : "narrow", workers, at_once,
      p99(config, NearestPolicy), p99(config, TwoChoicesPolicy), p99(config, LeastConnPolicy()),
      p99(without, NearestPolicy), p99(without, TwoChoicesPolicy), p99(without, LeastConnPolicy()));
}

void Run() {
  for (size_t n : {1, 8, 64}) MeasureCost(n, false);
  for (size_t n : {8, 64}) MeasureCost(n, true);
  std::printf("\nsimulated p99 in mean service times, one of eight instances ten times slower\n");
  for (auto service : {SimConfig::Service::kExponential, SimConfig::Service::kNarrow}) {
    for (int workers : {1, 4}) {
      for (int at_once : {1, 2, 4}) CompareChoices(service, workers, at_once);
    }
  }
}

}  // namespace
}  // namespace ctr::policy

int main() { ctr::policy::Run(); }
