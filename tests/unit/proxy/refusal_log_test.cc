#include "agent/proxy/refusal_log.h"

#include <vector>

#include <doctest/doctest.h>

namespace ctr {
namespace {

using namespace std::chrono_literals;

const MonoTime kNow = MonoTime(1h);
const Status kFull = Error(absl::StatusCode::kUnavailable, code::kOverloaded, "full");

struct Fixture {
  void Add(const std::string& id, MonoTime now, const Status& error = kFull) {
    log.Add({"web", id}, error, [this] { return "GET /" + std::to_string(++causes); }, now);
  }

  std::vector<Refusal> told;
  int causes = 0;
  RefusalLog log{[this](Refusal refusal) { told.push_back(std::move(refusal)); }};
};

TEST_CASE("a refusal is told at once, those like it as a count at the second's end") {
  Fixture f;
  for (int i = 0; i < 1000; ++i) f.Add("alice", kNow);
  REQUIRE(f.told.size() == 1);
  CHECK(f.told[0].name == InstanceName{"web", "alice"});
  CHECK(f.told[0].code == "overloaded");
  CHECK(f.told[0].cause == "GET /1");
  CHECK(f.told[0].times == 1);
  CHECK(f.causes == 1);
  f.log.Sweep(kNow + 1s - 1ns);
  CHECK(f.told.size() == 1);
  f.log.Sweep(kNow + 1s);
  REQUIRE(f.told.size() == 2);
  CHECK(f.told[1].times == 999);
  f.log.Sweep(kNow + 5s);
  CHECK(f.told.size() == 2);
}

TEST_CASE("a flood of ever new names costs a few calls a second, and none is uncounted") {
  Fixture f;
  for (int i = 0; i < 10'000; ++i) f.Add(std::to_string(i), kNow + i * 1ms);
  f.log.Sweep(kNow + 20s);
  CHECK(f.told.size() <= 10 * (RefusalLog::kMaxKinds + 1));
  uint64_t times = 0;
  for (const Refusal& refusal : f.told) times += refusal.times;
  CHECK(times == 10'000);
}

TEST_CASE("two codes of one instance are two kinds") {
  Fixture f;
  f.Add("alice", kNow);
  f.Add("alice", kNow, Error(absl::StatusCode::kUnavailable, code::kUpstreamError, "gone"));
  CHECK(f.told.size() == 2);
}

}  // namespace
}  // namespace ctr
