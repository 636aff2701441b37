#include "cli/usage.h"

#include <doctest/doctest.h>

namespace ctr::cli {
namespace {

v1::InstanceStats Stats(const std::string& id, int64_t at_us, int64_t cpu_us, uint64_t requests) {
  v1::InstanceStats stats;
  stats.mutable_instance()->set_class_("web");
  stats.mutable_instance()->set_id(id);
  stats.mutable_instance()->set_state("healthy");
  stats.mutable_instance()->set_generation(1);
  stats.mutable_instance()->set_in_flight(2);
  stats.set_sampled_at_us(at_us);
  stats.set_cpu_time_us(cpu_us);
  stats.set_memory_bytes(32 << 20);
  stats.set_processes(3);
  stats.set_requests(requests);
  return stats;
}

v1::ListStatsResponse Sample(const std::vector<v1::InstanceStats>& all) {
  v1::ListStatsResponse response;
  for (const v1::InstanceStats& stats : all) *response.add_stats() = stats;
  return response;
}

TEST_CASE("rates are differences of counters over the time between the samples") {
  auto usages = Rates(Sample({Stats("alice", 1'000'000, 100'000, 10)}),
                      Sample({Stats("alice", 3'000'000, 1'100'000, 110)}));
  REQUIRE(usages.size() == 1);
  CHECK(*usages[0].cpu_cores == doctest::Approx(0.5));
  CHECK(*usages[0].requests_per_second == doctest::Approx(50));
}

TEST_CASE("what was not there before has no rates, nor has another start's CPU time") {
  v1::InstanceStats restarted = Stats("bob", 2'000'000, 50'000, 20);
  restarted.mutable_instance()->set_generation(2);
  auto usages = Rates(Sample({Stats("bob", 1'000'000, 100, 10)}),
                      Sample({Stats("alice", 2'000'000, 1, 1), restarted}));
  REQUIRE(usages.size() == 2);
  CHECK_FALSE(usages[0].cpu_cores);
  CHECK_FALSE(usages[0].requests_per_second);
  CHECK_FALSE(usages[1].cpu_cores);
  CHECK(*usages[1].requests_per_second == doctest::Approx(10));
}

TEST_CASE("counters of an agent that was started anew give no negative rate") {
  auto usages =
      Rates(Sample({Stats("a", 1'000'000, 900, 100)}), Sample({Stats("a", 2'000'000, 800, 1)}));
  CHECK_FALSE(usages[0].cpu_cores);
  CHECK_FALSE(usages[0].requests_per_second);
  usages = Rates(Sample({Stats("a", 5, 1, 1)}), Sample({Stats("a", 5, 1, 1)}));
  CHECK_FALSE(usages[0].cpu_cores);
}

TEST_CASE("stats have every key, null where there is nothing to say") {
  Usage usage{.stats = Stats("alice", 0, 0, 7), .cpu_cores = 0.123456, .requests_per_second = 1.25};
  CHECK(ToJson(usage).dump() ==
        R"({"class":"web","id":"alice","state":"healthy","cpu_percent":12.3,"cpu_limit":null,)"
        R"("memory_bytes":33554432,"memory_limit_bytes":null,"processes":3,"in_flight":2,)"
        R"("requests_per_second":1.3,"requests":7,"failures":0})");
  v1::InstanceStats stopped;
  Json json = ToJson(Usage{.stats = stopped, .cpu_cores = {}, .requests_per_second = {}});
  CHECK(json.size() == ToJson(usage).size());
  CHECK(json["memory_bytes"].is_null());
  CHECK(json["cpu_percent"].is_null());
}

TEST_CASE("the table has a column for each") {
  Usage usage{.stats = Stats("alice", 0, 0, 7), .cpu_cores = 1.5, .requests_per_second = 12.34};
  usage.stats.set_memory_limit_bytes(64 << 20);
  usage.stats.mutable_instance()->set_failures(2);
  CHECK(UsageTable({usage}, Style::kPlain) ==
        "INSTANCE   STATE    CPU     MEMORY   LIMIT    MEM%   PROCS  IN-FLIGHT  REQ/S  REQUESTS  "
        "FAILURES\n"
        "web/alice  healthy  150.0%  32.0MiB  64.0MiB  50.0%  3      2          12.3   7         "
        "2\n");
}

TEST_CASE("the live view is sorted by CPU and cut to the screen") {
  std::vector<Usage> usages;
  for (int i = 0; i < 30; ++i) {
    usages.push_back({.stats = Stats("i" + std::to_string(i), 0, 0, 0),
                      .cpu_cores = i / 100.0,
                      .requests_per_second = 1.0});
  }
  std::string screen = TopScreen(usages, {.columns = 40, .rows = 6}, Style::kPlain);
  CHECK(std::count(screen.begin(), screen.end(), '\n') == 5);
  CHECK(screen.starts_with("instances 30, healthy 30   CPU 435.0%   "));
  CHECK(screen.find("web/i29") < screen.find("web/i28"));
  CHECK(screen.find("web/i26") == std::string::npos);
  size_t from = 0;
  while (from < screen.size()) {
    size_t end = std::min(screen.find('\n', from), screen.size());
    CHECK(end - from <= 40);
    from = end + 1;
  }
}

TEST_CASE("colours take no room on the screen, and are ended where a line is cut") {
  std::vector<Usage> usages = {
      {.stats = Stats("alice", 0, 0, 0), .cpu_cores = 0.5, .requests_per_second = {}}};
  std::string screen = TopScreen(usages, {.columns = 14, .rows = 24}, Style::kColoured);
  const std::string last = screen.substr(screen.rfind('\n') + 1);
  CHECK(last.find("web/alice  ") == 0);
  CHECK(last.ends_with("\x1b[0m"));
  CHECK(last.find("hea") != std::string::npos);
  CHECK(last.find("heal") == std::string::npos);
}

TEST_CASE("a screen of no size is no trouble") {
  CHECK(TopScreen({}, {.columns = 0, .rows = 0}, Style::kPlain).empty());
  CHECK(TopScreen({}, {.columns = 0, .rows = 1}, Style::kPlain).size() == 1);
}

}  // namespace
}  // namespace ctr::cli
