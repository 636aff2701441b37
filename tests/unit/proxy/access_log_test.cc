#include "agent/proxy/access_log.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "agent/proxy/traffic.h"

namespace ctr {
namespace {

using namespace std::chrono_literals;

const InstanceName kAlice{"web", "alice"};

TEST_CASE("an access is one line of JSON, whatever the client sent") {
  std::string out;
  AppendAccessEntry(out, {.at = WallTime(1'764'061'200'123ms),
                          .client = "10.0.0.1",
                          .request = "GET /a\"b\\c\xff\x01?é",
                          .host = "alice.web.localhost",
                          .instance = &kAlice,
                          .status = 200,
                          .bytes_in = 80,
                          .bytes_out = 1234,
                          .took = 1500us,
                          .wake = 0us});
  REQUIRE(out.ends_with("}\n"));
  CHECK(out.find('\n') == out.size() - 1);
  const auto json = nlohmann::json::parse(out);
  CHECK(json["time"] == "2025-11-25T09:00:00.123Z");
  CHECK(json["method"] == "GET");
  CHECK(json["target"] == "/a\"b\\c\uFFFD\x01?é");
  CHECK(json["status"] == 200);
  CHECK(json["class"] == "web");
  CHECK(json["id"] == "alice");
  CHECK(json["bytes_out"] == 1234);
  CHECK(json["ms"] == 1.5);
  CHECK_FALSE(json.contains("error"));
}

TEST_CASE("a connection has no method and no status") {
  std::string out;
  AppendAccessEntry(out, {.client = "10.0.0.1", .instance = &kAlice, .error = "start_failed"});
  const auto json = nlohmann::json::parse(out);
  CHECK_FALSE(json.contains("method"));
  CHECK_FALSE(json.contains("status"));
  CHECK(json["error"] == "start_failed");
}

std::string Read(const std::filesystem::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

TEST_CASE("a log that was moved away goes on in a new file") {
  const std::filesystem::path path = std::filesystem::temp_directory_path() /
                                     ("ctr-access-" + std::to_string(::getpid()) + ".log");
  AccessLog log(path);
  log.Add({.instance = &kAlice, .status = 200});
  log.Flush();
  std::filesystem::rename(path, path.string() + ".1");
  log.Add({.instance = &kAlice, .status = 404});
  log.Flush();
  CHECK(Read(path.string() + ".1").find("\"status\":200") != std::string::npos);
  CHECK(Read(path).find("\"status\":404") != std::string::npos);
  std::filesystem::remove(path);
  std::filesystem::remove(path.string() + ".1");
}

TEST_CASE("the loops' counts add up") {
  Traffic traffic;
  traffic.Add(0, {200, 2ms, 10, 100});
  traffic.Add(1, {503, 20s, 1, 2});
  traffic.Add(9, {201, 100s, 0, 0});
  traffic.AddConnection(1, 5, 6);
  const Traffic::Sums sums = traffic.Read();
  CHECK(sums.answers[1] == 2);
  CHECK(sums.answers[4] == 1);
  CHECK(sums.took.buckets[BucketOf(2ms)] == 1);
  CHECK(sums.took.buckets.back() == 1);
  CHECK(sums.took.sum_seconds == doctest::Approx(120.002));
  CHECK(sums.connections == 1);
  CHECK(sums.bytes_in == 16);
  CHECK(sums.bytes_out == 108);
}

}  // namespace
}  // namespace ctr
