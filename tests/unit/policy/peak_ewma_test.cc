#include "agent/policy/peak_ewma.h"

#include <cmath>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "agent/policy/in_flight_watch.h"

namespace ctr::policy::peak_ewma_test {
namespace {

using namespace std::chrono_literals;

const MonoTime kNow = MonoTime(1000h);

double Ms(double ns) { return ns / 1e6; }
double EstimateMs(const PeakEwma& ewma, MonoTime at) { return Ms(EstimateNs(ewma, at)); }

TEST_CASE("the first sample is the average") {
  CHECK_FALSE(PeakEwma().has_sample());
  const PeakEwma ewma = WithSample({}, 20ms, kNow);
  CHECK(ewma.has_sample());
  CHECK(EstimateMs(ewma, kNow) == doctest::Approx(20));
}

TEST_CASE("a worse sample replaces the average at once") {
  PeakEwma ewma = WithSample({}, 20ms, kNow);
  ewma = WithSample(ewma, 400ms, kNow + 1ms);
  CHECK(EstimateMs(ewma, kNow + 1ms) == doctest::Approx(400));
}

TEST_CASE(
    "a better sample weighs by the time since the last: cost w + rtt (1 - w), w = e^(-dt/tau)") {
  PeakEwma ewma = WithSample({}, 100ms, kNow);
  ewma = WithSample(ewma, 20ms, kNow + 10s);
  CHECK(EstimateMs(ewma, kNow + 10s) ==
        doctest::Approx(100 * std::exp(-1) + 20 * (1 - std::exp(-1))));
  // At the same moment it has no weight.
  CHECK(EstimateMs(WithSample(ewma, 1ms, kNow + 10s), kNow + 10s) ==
        doctest::Approx(EstimateMs(ewma, kNow + 10s)));
}

TEST_CASE("many good samples bring a peak down as fast as few do") {
  PeakEwma few = WithSample({}, 1s, kNow);
  PeakEwma many = few;
  for (int i = 1; i <= 2; ++i) few = WithSample(few, 10ms, kNow + i * 5s);
  for (int i = 1; i <= 10'000; ++i) many = WithSample(many, 10ms, kNow + i * 1ms);
  CHECK(EstimateMs(few, kNow + 10s) ==
        doctest::Approx(EstimateMs(many, kNow + 10s)).epsilon(0.001));
}

TEST_CASE("without samples the estimate decays towards zero, by looks alone and however many") {
  const PeakEwma ewma = WithSample({}, 1s, kNow);
  for (int i = 0; i < 100; ++i) EstimateNs(ewma, kNow + i * 100ms);
  CHECK(EstimateMs(ewma, kNow + 10s) == doctest::Approx(1000 / std::exp(1)));
  CHECK(EstimateMs(ewma, kNow + 100s) == doctest::Approx(1000 / std::exp(10)));
}

TEST_CASE("an estimate never decays so far that what is in flight costs nothing") {
  const PeakEwma ewma = WithSample({}, 1s, kNow);
  CHECK(EstimateNs(ewma, kNow + 1000h) == 10'000);
  CHECK(EstimateNs(ewma, MonoTime::max()) == 10'000);
}

TEST_CASE("time that goes backwards is no time at all") {
  PeakEwma ewma = WithSample({}, 100ms, kNow);
  CHECK(EstimateMs(ewma, kNow - 1h) == doctest::Approx(100));
  ewma = WithSample(ewma, 20ms, kNow - 1h);
  CHECK(EstimateMs(ewma, kNow) == doctest::Approx(100));
  CHECK(ewma.sampled_at == kNow);
}

TEST_CASE("latencies that make no sense are bounded") {
  CHECK(EstimateNs(WithSample({}, -5s, kNow), kNow) == 10'000);
  CHECK(EstimateMs(WithSample({}, Duration::max(), kNow), kNow) == doctest::Approx(3600e3));
  CHECK(EstimateMs(WithFailure({}, Duration::max(), kNow), kNow) == doctest::Approx(3600e3));
  CHECK(EstimateMs(WithFailure({}, Duration::min(), kNow), kNow) == doctest::Approx(1000));
}

TEST_CASE("a failure counts as a second, however fast it came") {
  CHECK(EstimateMs(WithFailure({}, 100us, kNow), kNow) == doctest::Approx(1000));
  CHECK(EstimateMs(WithFailure(WithSample({}, 20ms, kNow), 100us, kNow), kNow) ==
        doctest::Approx(1000));
}

TEST_CASE("each failure doubles what is expected, up to a minute, and a timeout counts whole") {
  PeakEwma ewma = WithFailure({}, 1ms, kNow);
  for (double expected : {2e3, 4e3, 8e3, 16e3, 32e3, 60e3, 60e3}) {
    ewma = WithFailure(ewma, 1ms, kNow);
    CHECK(EstimateMs(ewma, kNow) == doctest::Approx(expected));
  }
  CHECK(EstimateMs(WithFailure(ewma, 90s, kNow), kNow) == doctest::Approx(90e3));
}

TEST_CASE("answers that blame the request are no failures of the instance") {
  for (int status : {200, 204, 301, 400, 404, 429, 499, 501, 505}) CHECK_FALSE(IsFailure(status));
  for (int status : {500, 502, 503, 504, 599}) CHECK(IsFailure(status));
}

TEST_CASE("the shared form gives what the plain one gives") {
  SharedPeakEwma shared;
  CHECK_FALSE(shared.Load(kNow).has_sample());
  PeakEwma plain;
  MonoTime now = kNow;
  for (int i = 0; i < 10'000; ++i) {
    const Duration latency = (1 + i * 7919 % 100) * 1ms;
    now += (i % 13) * 1ms;
    if (i % 1000 == 999) {
      shared.SampleFailure(latency, now);
      plain = WithFailure(plain, latency, now);
    } else {
      shared.Sample(latency, now);
      plain = WithSample(plain, latency, now);
    }
    REQUIRE(EstimateMs(shared.Load(now), now) ==
            doctest::Approx(EstimateMs(plain, now)).epsilon(0.001));
  }
  CHECK(EstimateMs(shared.Load(now + 15s), now + 15s) ==
        doctest::Approx(EstimateMs(plain, now + 15s)).epsilon(0.001));
  shared.Reset();
  CHECK_FALSE(shared.Load(now).has_sample());
}

TEST_CASE("samples closer than the shared form's clock can tell do not wear the average down") {
  SharedPeakEwma shared;
  shared.Sample(1s, kNow);
  for (int i = 0; i < 100'000; ++i) shared.Sample(1ms, kNow + i * 1us);  // 0.1 s
  CHECK(EstimateMs(shared.Load(kNow + 100ms), kNow + 100ms) ==
        doctest::Approx(1 + 999 * std::exp(-0.01)).epsilon(0.001));
}

TEST_CASE("a sample by a clock that is a little behind changes no time, one after 52 days does") {
  SharedPeakEwma shared;
  shared.Sample(100ms, kNow);
  shared.Sample(10ms, kNow - 20ms);
  CHECK(EstimateMs(shared.Load(kNow), kNow) == doctest::Approx(100).epsilon(0.001));
  shared.Sample(10ms, kNow + 1300h);
  CHECK(EstimateMs(shared.Load(kNow + 1300h), kNow + 1300h) < 100);
  shared.Sample(10ms, kNow + 1300h + 200s);
  CHECK(EstimateMs(shared.Load(kNow + 1300h + 200s), kNow + 1300h + 200s) ==
        doctest::Approx(10).epsilon(0.001));
}

TEST_CASE("no peak is lost when threads sample at once") {
  for (int round = 0; round < 20; ++round) {
    SharedPeakEwma shared;
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&shared, t] {
        for (int i = 0; i < 1000; ++i) {
          shared.Sample(t == 2 && i == 500 ? Duration(5s) : Duration(1ms), kNow);
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK(EstimateMs(shared.Load(kNow), kNow) == doctest::Approx(5000));
  }
}

TEST_CASE("the watch follows one request, and when it is answered the next that begins") {
  InFlightWatch watch;
  CHECK(watch.Age(kNow) == 0s);
  CHECK(watch.Begin(kNow));
  CHECK_FALSE(watch.Begin(kNow + 1s));
  CHECK(watch.Age(kNow + 3s) == 3s);
  CHECK(watch.Age(kNow - 3s) == 0s);
  watch.End();
  CHECK(watch.Age(kNow + 3s) == 0s);
  CHECK(watch.Begin(kNow + 4s));
  CHECK(watch.Age(kNow + 9s) == 5s);
}

TEST_CASE("the watch works at the clock's zero, too") {
  InFlightWatch watch;
  CHECK(watch.Begin(MonoTime{}));
  CHECK_FALSE(watch.Begin(MonoTime{}));
  CHECK(watch.Age(MonoTime{} + 1s) > 999ms);
}

}  // namespace
}  // namespace ctr::policy::peak_ewma_test
