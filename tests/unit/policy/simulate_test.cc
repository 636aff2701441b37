#include "agent/policy/simulate.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <doctest/doctest.h>

namespace ctr::policy {
namespace {

using namespace std::chrono_literals;

// Instances that steer for seven in flight and take ten, by traffic alone.
SimulationConfig Seven() {
  SimulationConfig config;
  config.autoscale.traffic.target = 10;
  config.autoscale.max_concurrency = 10;
  config.autoscale.target_cpu.reset();
  config.autoscale.target_memory.reset();
  return config;
}

TraceRow Row(double at, double arrivals, double service = 0.1) {
  return {.at = at, .arrivals = arrivals, .service = service};
}

using Trace = std::vector<TraceRow>;

TEST_CASE("the first request waits for one start, and no longer") {
  const SimulationResult result =
      Simulate(Trace{Row(0, 0), Row(5, 1), Row(6, 0), Row(10, 0)}, Seven());
  REQUIRE(result.error.empty());
  CHECK(result.steps.size() == 14);  // the last row holds as long as the one before it
  CHECK(result.totals.requests == 1);
  CHECK(result.totals.completed == 1);
  CHECK(result.totals.waited == 1);
  CHECK(result.totals.starts == 1);
  CHECK(result.totals.worst_wait == doctest::Approx(1));
  CHECK(result.totals.latency_p50 == doctest::Approx(1.1).epsilon(0.006));
  CHECK(result.steps[4].desired == 0);
  CHECK(result.steps[5].desired == 1);
}

TEST_CASE("a burst from zero starts as many as it needs before the next tick") {
  const SimulationResult result = Simulate(Trace{Row(0, 60, 1)}, Seven());
  const SimulationStep& step = result.steps.front();
  CHECK(step.arrivals == 60);
  CHECK(step.waited == 60);
  CHECK(step.starting + step.ready >= 9);  // 60 / 7
  CHECK(result.totals.worst_wait <= 1.0);
}

TEST_CASE("after sleep_after without a request none is left, and it costs no more than that") {
  SimulationConfig config = Seven();
  config.autoscale.sleep_after = 30s;
  const SimulationResult result = Simulate(Trace{Row(0, 5), Row(60, 0), Row(160, 0)}, config);
  for (const SimulationStep& step : result.steps) {
    if (step.second < 88) CHECK(step.ready + step.starting == 1);
    if (step.second > 91) CHECK(step.ready == 0);
  }
  CHECK(result.totals.instance_seconds > 88);
  CHECK(result.totals.instance_seconds < 92);
  CHECK(result.totals.ideal_instance_seconds == 60);
}

TEST_CASE("a load that stays is served by as many as it needs, with the latency of its service") {
  SimulationConfig config = Seven();
  config.instances = 5;
  // 320 requests a second of 0.1 s are 32 in flight.
  const SimulationResult result = Simulate(Trace{Row(0, 320), Row(300, 320)}, config);
  CHECK(result.totals.requests == 320 * 600);
  for (const SimulationStep& step : result.steps) {
    REQUIRE(step.desired == 5);
    REQUIRE(step.latency_p50.has_value());
    REQUIRE(*step.latency_p50 == doctest::Approx(0.1));
    if (step.second > 0) REQUIRE(step.in_flight == doctest::Approx(32).epsilon(0.1));
  }
  // Now and then more than fifty are in flight, by chance.
  CHECK(result.totals.waited < result.totals.requests / 1000);
  CHECK(result.totals.worst_wait < 0.1);
  CHECK(result.totals.instance_seconds == 3000);
  CHECK(result.totals.ideal_instance_seconds == 3000);
  CHECK(result.totals.starts == 5);
}

TEST_CASE("a tenfold surge is served within seconds, and its instances go again") {
  SimulationConfig config = Seven();
  config.instances = 1;
  const SimulationResult result =
      Simulate(Trace{Row(0, 50), Row(60, 500), Row(180, 50), Row(600, 50)}, config);
  for (const SimulationStep& step : result.steps) {
    if (step.second >= 70 && step.second < 180) {
      REQUIRE(step.queued == 0);
      REQUIRE(step.ready >= 7);
    }
    if (step.second >= 400) REQUIRE(step.ready == 1);
  }
  CHECK(result.totals.worst_wait < 1);  // one start
  CHECK(result.totals.waited < 2000);
  CHECK(result.totals.requests - result.totals.completed < 20);  // under way at the end
}

TEST_CASE("a slow wave costs little more than the ideal, and hardly anybody waits") {
  SimulationConfig config = Seven();
  config.instances = 8;
  Trace trace;
  for (int minute = 0; minute < 120; ++minute) {
    trace.push_back(Row(minute * 60, 50 + 40 * std::sin(minute * 2 * M_PI / 120), 1));
  }
  const SimulationResult result = Simulate(trace, config);
  CHECK(result.totals.instance_seconds < 1.25 * result.totals.ideal_instance_seconds);
  CHECK(result.totals.waited < result.totals.requests / 500);
  CHECK(result.totals.latency_p99 < 1.1);
}

TEST_CASE("requests that want more CPU than there is slow down alike") {
  SimulationConfig config = Seven();
  config.instances = 1;
  config.autoscale.max = 1;
  config.autoscale.max_concurrency.reset();
  config.cpu_limit = 1;
  // Each is all CPU: with 5 a second of 0.1 s the one core is half busy, with 20 it is overrun.
  const TraceRow calm{.at = 0, .arrivals = 5, .service = 0.1, .cpu = 0.1};
  const TraceRow busy{.at = 0, .arrivals = 20, .service = 0.1, .cpu = 0.1};
  const SimulationResult half = Simulate(Trace{calm, {.at = 600}}, config);
  CHECK(half.totals.latency_p50 >= 0.099);
  CHECK(half.totals.latency_p50 < 0.2);
  const SimulationResult over = Simulate(Trace{busy, {.at = 60}}, config);
  CHECK(over.totals.latency_p99 > 20);
  // The core does ten a second, so that 1200 take twice the time they come in.
  CHECK(over.totals.completed > 1150);
  CHECK(over.totals.completed <= 1200);
  CHECK(over.steps[60].in_flight > 500);
  // With the CPU as a signal it grows until there is enough of it.
  config.autoscale.max = 20;
  config.autoscale.target_cpu = 0.7;
  config.autoscale.traffic.target = 1000;
  const SimulationResult scaled = Simulate(Trace{busy, {.at = 600}}, config);
  CHECK(scaled.steps[500].ready == 3);  // 2 cores at 0.7
  CHECK(*scaled.steps[500].latency_p50 < 0.2);
}

TEST_CASE("what takes more CPU than time takes the CPU's time") {
  SimulationConfig config = Seven();
  config.instances = 1;
  const TraceRow row{.at = 0, .arrivals = 1, .service = 0.1, .cpu = 2};
  const SimulationResult result = Simulate(Trace{row, {.at = 1}, {.at = 10}}, config);
  CHECK(result.totals.latency_p50 == doctest::Approx(2).epsilon(0.006));
}

TEST_CASE("memory that the instances use counts against their limit") {
  SimulationConfig config = Seven();
  config.instances = 2;
  config.memory_limit = 100e6;
  config.autoscale.target_memory = 0.8;
  const TraceRow row{.at = 0, .arrivals = 100, .service = 0.1, .memory = 90e6};
  const SimulationResult result = Simulate(Trace{row, {.at = 10}}, config);
  CHECK(result.steps.front().desired == 3);
  CHECK(result.steps.front().reason.starts_with("memory: 90 % of the limit"));
}

TEST_CASE("bounds are kept, and what finds no place waits") {
  SimulationConfig config = Seven();
  config.host_capacity = 3;
  const SimulationResult result = Simulate(Trace{Row(0, 400), Row(60, 0), Row(120, 0)}, config);
  CHECK(result.totals.most == 3);
  CHECK(result.totals.worst_wait > 10);
  CHECK(result.totals.completed == result.totals.requests);  // 300 a second: in 80 seconds
  config.host_capacity.reset();
  config.max_instances = 2;
  CHECK(Simulate(Trace{Row(0, 400)}, config).totals.most == 2);
}

TEST_CASE("the same seed gives the same result, another one another") {
  const Trace trace = {Row(0, 37.5, 0.3), Row(60, 80.25, 0.3), Row(120, 3, 0.3)};
  SimulationConfig config = Seven();
  const auto latencies = [&] {
    std::vector<double> all;
    for (const SimulationStep& step : Simulate(trace, config).steps) {
      all.push_back(step.latency_p99.value_or(-1));
    }
    return all;
  };
  const std::vector<double> first = latencies();
  CHECK(first == latencies());
  config.seed = 2;
  CHECK_FALSE(first == latencies());
}

TEST_CASE("rows of less than a second count for as long as they hold") {
  Trace trace;
  for (int i = 0; i < 100; ++i) trace.push_back(Row(i * 0.1, i % 10 == 0 ? 100 : 0, 0.5));
  const SimulationResult result = Simulate(trace, Seven());
  CHECK(result.steps.size() == 10);
  CHECK(result.totals.requests == 100);  // a tenth of each second's
}

TEST_CASE("fractions of requests add up") {
  const SimulationResult result = Simulate(Trace{Row(0, 0.1), Row(100, 0)}, Seven());
  CHECK(result.totals.requests == 10);
}

TEST_CASE("a step's quantiles are of what completed in it") {
  SimulationConfig config = Seven();
  config.instances = 1;
  const SimulationResult result = Simulate(Trace{Row(0, 1, 2.5), Row(1, 0), Row(5, 0)}, config);
  int64_t completed = 0;
  for (const SimulationStep& step : result.steps) {
    CHECK(step.latency_p50.has_value() == (step.completed > 0));
    completed += step.completed;
  }
  CHECK(completed == 1);
}

TEST_CASE("a trace that makes no sense is refused, and its row named") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(CheckTrace({}) == "the trace is empty");
  CHECK(CheckTrace(Trace{Row(0, 1), Row(1, -1)}).starts_with("row 2: "));
  CHECK(CheckTrace(Trace{Row(0, 1, nan)}).starts_with("row 1: "));
  CHECK(CheckTrace(Trace{Row(0, 1), Row(0, 1)}).starts_with("row 2: its time"));
  CHECK(CheckTrace(Trace{Row(0, 1e9)}).starts_with("row 1: more than 100,000 requests a second"));
  CHECK(CheckTrace(Trace{Row(0, 1e3), Row(1e6, 1)}).starts_with("row 1: more than 100 million"));
  CHECK(CheckTrace(Trace{Row(0, 0), Row(1e9, 0)}).starts_with("row 2: its time is more"));
  CHECK(CheckTrace(Trace{Row(3, 1)}).empty());
  CHECK_FALSE(Simulate({}, Seven()).error.empty());
  SimulationConfig config = Seven();
  config.autoscale.min = -1;
  CHECK(Simulate(Trace{Row(0, 1)}, config).error == "min must be at least 0");
  config = Seven();
  config.instances = 21;
  CHECK(Simulate(Trace{Row(0, 1)}, config).error == "instances must be 0 to max");
  config = Seven();
  config.start_time = -1s;
  CHECK_FALSE(Simulate(Trace{Row(0, 1)}, config).error.empty());
}

TEST_CASE("a trace of days is told in no more steps than one of a day, each for more seconds") {
  const int64_t long_time = 150'000;
  SimulationConfig config = Seven();
  config.autoscale.sleep_after = 30s;
  const SimulationResult result =
      Simulate(Trace{Row(0, 5), Row(100, 0), Row(long_time - 50, 20), Row(long_time, 0)}, config);
  REQUIRE(result.error.empty());
  CHECK(result.step_seconds == 2);
  CHECK(result.steps.size() <= 100'000);
  int64_t arrivals = 0, completed = 0;
  for (size_t i = 0; i < result.steps.size(); ++i) {
    REQUIRE(result.steps[i].second == static_cast<int64_t>(i) * 2);
    arrivals += result.steps[i].arrivals;
    completed += result.steps[i].completed;
  }
  CHECK(arrivals == result.totals.requests);
  CHECK(arrivals == 500 + 1000);
  CHECK(completed == result.totals.completed);
  CHECK(result.steps.front().arrivals == 5 * 2);
  CHECK(result.steps[20].in_flight == doctest::Approx(0.5).epsilon(0.5));  // averaged, not summed
  CHECK(result.steps[100].ready == 0);
}

TEST_CASE("a trace that no instances could ever serve ends the simulation, and says why") {
  SimulationConfig config = Seven();
  config.max_instances = 1;
  const SimulationResult result = Simulate(Trace{Row(0, 1e5), Row(900, 0)}, config);
  CHECK(result.error.starts_with("in second 11 of the trace "));
  CHECK(result.steps.empty());
  config = Seven();
  config.autoscale.max_concurrency.reset();
  CHECK_FALSE(Simulate(Trace{Row(0, 1e5, 1e6), Row(900, 0)}, config).error.empty());
}

TEST_CASE("a simulation in pieces is that of all at once") {
  const Trace trace = {Row(0, 300), Row(900, 0)};
  Simulation simulation(trace, Seven());
  int pieces = 1;
  while (simulation.GoOn()) ++pieces;
  CHECK(pieces > 5);
  const SimulationResult result = simulation.TakeResult();
  CHECK(result.steps.size() == 1800);
  CHECK(result.totals.latency_p99 == Simulate(trace, Seven()).totals.latency_p99);
}

TEST_CASE("a trace that begins later is quiet until then") {
  const SimulationResult result = Simulate(Trace{Row(3, 10), Row(5, 10)}, Seven());
  REQUIRE(result.steps.size() == 7);
  CHECK(result.steps[2].arrivals == 0);
  CHECK(result.steps[3].arrivals == 10);
}

}  // namespace
}  // namespace ctr::policy
