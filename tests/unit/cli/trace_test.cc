#include "cli/trace.h"

#include <doctest/doctest.h>

namespace ctr::cli {
namespace {

using Row = v1::SimulateAutoscaleRequest::Row;

std::vector<Row> Rows(const std::string& text) {
  StatusOr<std::vector<Row>> rows = ParseTrace(text, "web");
  REQUIRE_MESSAGE(rows.ok(), rows.status().ToString());
  return *rows;
}

std::string Complaint(const std::string& text) {
  StatusOr<std::vector<Row>> rows = ParseTrace(text, "web");
  REQUIRE_FALSE(rows.ok());
  return std::string(rows.status().message());
}

bool Contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_CASE("a trace may be lines of time, arrivals and service; cpu and memory may be left out") {
  const auto rows = Rows(R"({"time":0,"arrivals":10,"service":0.05}

{"time":2,"arrivals":4.5,"service":0.1,"cpu":0.01,"memory":1000000}
)");
  REQUIRE(rows.size() == 2);
  CHECK(rows[0].arrivals() == 10);
  CHECK(rows[0].cpu() == 0);
  CHECK(rows[1].at() == 2);
  CHECK(rows[1].memory() == 1'000'000);
}

TEST_CASE("the access log is summed up by the second, of its class alone, waiting aside") {
  const auto rows = Rows(
      R"({"time":"2026-11-26T07:00:01.500Z","status":200,"class":"web","id":"a","bytes_in":1,"bytes_out":1,"ms":700,"wake_ms":500}
{"time":"2026-11-26T07:00:01.100Z","status":200,"class":"web","id":"a","bytes_in":1,"bytes_out":1,"ms":1100.0,"wake_ms":0}
{"time":"2026-11-26T07:00:01.200Z","status":200,"class":"other","id":"a","bytes_in":1,"bytes_out":1,"ms":1100,"wake_ms":0}
{"time":"2026-11-26T07:00:02.200Z","class":"web","id":"a","bytes_in":1,"bytes_out":1,"ms":1100,"wake_ms":0}
{"time":"2026-11-26T07:00:09.000Z","status":503,"class":"web","id":"a","bytes_in":1,"bytes_out":1,"ms":0,"wake_ms":0}
)");
  // Requests count when they came: at :00 two of them, at :09 one, and nothing in between.
  REQUIRE(rows.size() == 4);
  CHECK(rows[0].at() == 0);
  CHECK(rows[0].arrivals() == 2);
  CHECK(rows[0].service() == doctest::Approx((0.2 + 1.1) / 2));
  CHECK(rows[1].at() == 1);
  CHECK(rows[1].arrivals() == 0);
  CHECK(rows[2].at() == 9);
  CHECK(rows[2].arrivals() == 1);
  CHECK(rows[3].at() == 10);
  CHECK(rows[3].arrivals() == 0);
}

constexpr char kEvents[] =
    R"({"time":"2026-11-26T07:00:00.000Z","type":"healthy","class":"web","id":"instance-0","message":""}
{"time":"2026-11-26T07:01:00.000Z","type":"traffic","class":"web","id":"","message":"600 requests in 60.0 s: 0.0500 s and 0.0100 CPU s each; 12.0 MiB an instance"}
{"time":"2026-11-26T07:01:00.000Z","type":"traffic","class":"api","id":"","message":"9 requests in 60.0 s: 0.0500 s and 0.0100 CPU s each; 12.0 MiB an instance"}
{"time":"2026-11-26T07:02:00.000Z","type":"traffic","class":"web","id":"","message":"60 requests in 60.0 s: 0.0500 s and 0.0100 CPU s each; 12.0 MiB an instance"}
{"time":"2026-11-26T07:10:00.000Z","type":"traffic","class":"web","id":"","message":"120 requests in 60.0 s: 0.0500 s and 0.0100 CPU s each; 12.0 MiB an instance"}
)";

TEST_CASE("the agent's events of traffic are a trace, by the minute") {
  const auto rows = Rows(kEvents);
  REQUIRE(rows.size() == 5);
  CHECK(rows[0].at() == 0);
  CHECK(rows[0].arrivals() == 10);
  CHECK(rows[0].service() == doctest::Approx(0.05));
  CHECK(rows[0].cpu() == doctest::Approx(0.01));
  CHECK(rows[0].memory() == doctest::Approx(12 << 20));
  CHECK(rows[1].at() == 60);
  CHECK(rows[1].arrivals() == 1);
  CHECK(rows[2].at() == 120);
  CHECK(rows[2].arrivals() == 0);
  CHECK(rows[3].at() == 540);
  CHECK(rows[4].arrivals() == 0);
}

TEST_CASE("what ctr -o json events prints is one, too") {
  std::string array = kEvents;
  for (size_t at = array.find("}\n{"); at != std::string::npos; at = array.find("}\n{")) {
    array.replace(at, 3, "},{");
  }
  CHECK(Rows("[" + array + "]").size() == 5);
}

std::string Scrape(double at, int ok, int failed, double seconds, double cpu) {
  const auto text = [](auto number) { return std::to_string(number); };
  return "# HELP ctr_time_seconds Unix time of this text.\n# TYPE ctr_time_seconds gauge\n"
         "ctr_time_seconds " +
         text(at) +
         "\n"
         "ctr_requests_total{class=\"web\",status=\"2xx\"} " +
         text(ok) +
         "\n"
         "ctr_requests_total{class=\"web\",status=\"5xx\"} " +
         text(failed) +
         "\n"
         "ctr_requests_total{class=\"other\",status=\"5xx\"} 77\n"
         "ctr_request_duration_seconds_sum{class=\"web\"} " +
         text(seconds) +
         "\n"
         "ctr_request_duration_seconds_bucket{class=\"web\",le=\"+Inf\"} 3\n"
         "ctr_cpu_seconds_total{class=\"web\"} " +
         text(cpu) +
         "\n"
         "ctr_instances{class=\"web\",state=\"healthy\"} 2\n"
         "ctr_instances{class=\"web\",state=\"stopped\"} 5\n"
         "ctr_memory_bytes{class=\"web\"} 1e+06\n";
}

TEST_CASE("scrapes of /metrics, one after the other, are a trace of what came in between") {
  const auto rows = Rows(Scrape(1000, 10, 0, 1, 2) + Scrape(1002, 27, 3, 3, 2.5) +
                         Scrape(1003, 27, 3, 3, 2.5) + Scrape(1004, 4, 0, 1, 0));
  REQUIRE(rows.size() == 4);
  CHECK(rows[0].at() == 0);
  CHECK(rows[0].arrivals() == 10);
  CHECK(rows[0].service() == doctest::Approx(0.1));
  CHECK(rows[0].cpu() == doctest::Approx(0.025));
  CHECK(rows[0].memory() == doctest::Approx(500'000));
  CHECK(rows[1].at() == 2);
  CHECK(rows[1].arrivals() == 0);
  // The agent began anew: its counters, too.
  CHECK(rows[2].arrivals() == 4);
  CHECK(rows[3].at() == 4);
  CHECK(rows[3].arrivals() == 0);
}

TEST_CASE("what is no trace is refused with its line and what it is to be") {
  CHECK(Contains(Complaint(""), "nothing in it"));
  CHECK(Contains(Complaint("hello\n"), "line 1: it is no JSON object"));
  CHECK(Contains(Complaint("{\"time\":0,\"arrivals\":1}\n"), "time, arrivals and service"));
  CHECK(Contains(Complaint("{\"time\":0,\"arrivals\":\"1\",\"service\":1}"),
                 "arrivals is no number"));
  CHECK(Contains(Complaint("\n{\"time\":0,\"arrivals\":1,\"service\":1,\"colour\":1}"),
                 "line 2: \"colour\" is unknown"));
  CHECK(Contains(Complaint(std::string(kEvents) + "{\"time\":0,\"arrivals\":1,\"service\":1}"),
                 "another kind"));
  CHECK(Contains(Complaint(R"({"time":"x","type":"traffic","class":"web","message":""})"),
                 "its time is none"));
  CHECK(Contains(Complaint(R"({"time":"2026-11-26T07:00:00Z","type":"traffic","class":"web"})"),
                 "no event of type traffic"));
  CHECK(Contains(
      Complaint(R"({"time":"2026-11-26T07:00:00Z","status":1,"class":"web","bytes_in":1})"),
      "ms is missing"));
  // Of other classes only, or nothing but what was decided.
  CHECK(Contains(Complaint(R"({"time":"2026-11-26T07:00:00Z","type":"healthy","class":"web"})"),
                 "tells nothing of what came to web"));
  CHECK(Contains(Complaint("[1"), "no JSON array"));
  CHECK(Contains(Complaint("[1]"), "no JSON object"));
  CHECK(Contains(Complaint(Scrape(1, 1, 1, 1, 1)), "two scrapes"));
  CHECK(Contains(Complaint(Scrape(2, 1, 1, 1, 1) + Scrape(2, 1, 1, 1, 1)), "not later"));
  CHECK(Contains(Complaint(Scrape(2, 1, 1, 1, 1) + "ctr_x\n"), "no line of /metrics"));
}

}  // namespace
}  // namespace ctr::cli
