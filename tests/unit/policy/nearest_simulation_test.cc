#include <doctest/doctest.h>

#include "tests/unit/policy/route_simulation.h"

namespace ctr::policy {
namespace {

using Service = SimConfig::Service;

// Eight instances that one at 60 % of their capacity would keep busy, the first ten times slower.
SimConfig OneSlowOfEight(Service service, double service_s, int workers) {
  SimConfig config;
  config.service = service;
  config.instances.assign(8, {.service_s = service_s, .workers = workers});
  config.instances[0].service_s *= 10;
  config.arrivals_per_s = 0.6 * 7.1 * workers / service_s;
  return config;
}

SimConfig WithoutTheSlow(SimConfig config) {
  config.instances.erase(config.instances.begin());
  return config;
}

double P99(const SimConfig& config, const SimPolicy& policy) {
  return RouteSimulation(config, policy).Run().Quantile(0.99);
}

TEST_CASE("one slow instance of eight costs at most 1.3 times the p99, and 0.6 of leastconn's") {
  for (uint64_t seed : {1, 2}) {
    for (SimConfig config :
         {OneSlowOfEight(Service::kExponential, 0.02, 1), OneSlowOfEight(Service::kNarrow, 0.02, 1),
          OneSlowOfEight(Service::kNarrow, 0.1, 4)}) {
      config.seed = seed;
      const double p99 = P99(config, NearestPolicy);
      CHECK(p99 <= 1.3 * P99(WithoutTheSlow(config), NearestPolicy));
      CHECK(p99 <= 0.6 * P99(config, LeastConnPolicy()));
    }
  }
}

TEST_CASE("with one slow instance the full look is no worse than two choices") {
  const SimConfig config = OneSlowOfEight(Service::kExponential, 0.02, 1);
  CHECK(P99(config, NearestPolicy) <= P99(config, TwoChoicesPolicy));
}

TEST_CASE("eight equal instances share the load evenly") {
  SimConfig config;
  config.instances.assign(8, {});
  config.arrivals_per_s = 0.6 * 8 / 0.02;
  const SimResult result = RouteSimulation(config, NearestPolicy).Run();
  for (size_t i = 0; i < 8; ++i) {
    CHECK(result.Share(i) > 0.10);
    CHECK(result.Share(i) < 0.15);
  }
}

TEST_CASE("an instance that answers 503 at once gets under 3 % of the traffic, without ejection") {
  for (double service_s : {0.002, 0.02, 0.3}) {
    SimConfig config = OneSlowOfEight(Service::kExponential, service_s, 1);
    config.instances[0] = {.broken = true};
    config.seconds = service_s < 0.01 ? 30 : 100;
    CHECK(RouteSimulation(config, NearestPolicy).Run().Share(0) < 0.03);
    // Who goes to what seems the least busy is drawn to it.
    CHECK(RouteSimulation(config, LeastConnPolicy()).Run().Share(0) > 0.15);
  }
}

TEST_CASE("under 3 % also where good answers take seconds, by ejection") {
  SimConfig config = OneSlowOfEight(Service::kExponential, 3, 4);
  config.instances[0] = {.broken = true};
  config.seconds = 1200;
  config.measured_from_s = 0;
  config.ejection = true;
  CHECK(RouteSimulation(config, NearestPolicy).Run().Share(0) < 0.03);
}

TEST_CASE("an instance that stalls gets no more than its share of one second") {
  for (double service_s : {0.005, 0.02, 0.2}) {
    for (double stalls_at_s : {20.0, 20.37}) {
      SimConfig config = OneSlowOfEight(Service::kExponential, service_s, 1);
      config.instances[0] = {.service_s = service_s, .stalls_at_s = stalls_at_s};
      config.seconds = 50;
      config.timeout_s = 60;
      const SimResult result = RouteSimulation(config, NearestPolicy).Run();
      CHECK(static_cast<double>(result.sent_after_stall[0]) <= config.arrivals_per_s / 8);
    }
  }
}

TEST_CASE("after its requests have timed out a stalled instance is tried only now and then") {
  SimConfig config = OneSlowOfEight(Service::kExponential, 0.02, 1);
  config.instances[0] = {.service_s = 0.02, .stalls_at_s = 20};
  config.seconds = 300;
  config.timeout_s = 30;
  const SimResult result = RouteSimulation(config, NearestPolicy).Run();
  CHECK(result.Share(0) < 0.002);
}

TEST_CASE("when all are broken each still gets its share") {
  SimConfig config;
  config.instances.assign(4, {.broken = true});
  config.arrivals_per_s = 200;
  config.ejection = true;
  const SimResult result = RouteSimulation(config, NearestPolicy).Run();
  uint64_t all = 0;
  for (uint64_t count : result.sent) all += count;
  CHECK(result.failed == all);
  CHECK(all > 19'000);
}

}  // namespace
}  // namespace ctr::policy
