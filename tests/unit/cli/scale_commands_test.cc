#include <fstream>

#include <doctest/doctest.h>

#include "tests/unit/cli/command_line.h"

// ctr autoscale, and ctr route --explain.
namespace ctr::cli {
namespace {

TEST_CASE("autoscale on sends the settings of its flags, and says what came of it") {
  FakeAgent agent;
  agent.applied.mutable_class_()->set_name("web");
  agent.applied.set_result(v1::ApplyClassResponse::RESULT_CONFIGURED);
  const Outcome outcome = RunCtr(agent, {"autoscale", "on", "web", "--min", "1", "--max", "5",
                                         "--set", "scale_down_delay=1m"});
  CHECK(outcome.exit_status == 0);
  CHECK(outcome.out == "class/web configured\n");
  v1::SetAutoscaleRequest request = agent.autoscale_set();
  CHECK(request.class_() == "web");
  CHECK(request.on());
  CHECK(request.settings().at("min") == "1");
  CHECK(request.settings().at("max") == "5");
  CHECK(request.settings().at("scale_down_delay") == "1m");
  agent.applied.set_result(v1::ApplyClassResponse::RESULT_UNCHANGED);
  CHECK(RunCtr(agent, {"autoscale", "on", "web"}).out == "class/web unchanged\n");
  CHECK(RunCtr(agent, {"autoscale", "off", "web", "-o", "name"}).out == "class/web\n");
  CHECK_FALSE(agent.autoscale_set().on());
}

TEST_CASE("a setting without a value is refused before the agent is asked") {
  FakeAgent agent;
  const Outcome outcome = RunCtr(agent, {"autoscale", "on", "web", "--set", "window"});
  CHECK(outcome.exit_status == 2);
  CHECK(outcome.err.find("--set window: write it like") != std::string::npos);
  CHECK(agent.Last().empty());
}

v1::AutoscaleStatus Status() {
  v1::AutoscaleStatus status;
  status.set_class_("web");
  status.set_on(true);
  status.set_desired(6);
  status.set_live(4);
  status.set_healthy(3);
  status.set_queued(2);
  status.set_panic(true);
  status.set_bound("max");
  status.set_reason("traffic: 37.2 in flight");
  status.set_settings_json(R"({"min":0})");
  auto* signal = status.add_signals();
  signal->set_name("traffic");
  signal->set_value(37.2);
  signal->set_target(7);
  signal->set_wish(6);
  signal->set_text("traffic: 37.2 in flight / 3 ready, target 7: wants 6");
  status.add_signals()->set_name("cpu");
  auto* told = status.add_decisions();
  told->set_time_ms(1'795'467'600'250);
  told->set_desired(6);
  told->set_reason("more came");
  return status;
}

TEST_CASE("autoscale status tells people the signals and the last decisions, programs all of it") {
  FakeAgent agent;
  agent.autoscale_status = Status();
  const std::string text = RunCtr(agent, {"autoscale", "status", "web"}).out;
  CHECK(text ==
        "class/web: 6 wanted, 4 live, 3 healthy, 2 requests waiting; panic; bound: max\n"
        "traffic: 37.2 in flight\n\n"
        "  traffic: 37.2 in flight / 3 ready, target 7: wants 6\n"
        "  \n\n"
        "Last decisions:\n"
        "  2026-11-23T21:00:00.250Z  6  more came\n");
  const Json json = Json::parse(RunCtr(agent, {"autoscale", "status", "web", "-o", "json"}).out);
  CHECK(json["desired"] == 6);
  CHECK(json["mode"] == "panic");
  CHECK(json["signals"][0]["wish"] == 6);
  CHECK(json["signals"][1]["wish"].is_null());
  CHECK(json["settings"]["min"] == 0);
  CHECK(json["decisions"][0]["desired"] == 6);
}

TEST_CASE("autoscale status of a class that does not scale says so") {
  FakeAgent agent;
  agent.autoscale_status.set_class_("web");
  CHECK(RunCtr(agent, {"autoscale", "status", "web"}).out == "class/web: autoscale is off\n");
}

TEST_CASE("autoscale simulate sends the trace, and prints steps and sums") {
  FakeAgent agent;
  TempDir dir;
  const std::string path = dir.Path("trace");
  std::ofstream(path) << "{\"time\":0,\"arrivals\":10,\"service\":0.05}\n";
  auto* step = agent.simulated.add_steps();
  step->set_arrivals(10);
  step->set_desired(3);
  agent.simulated.set_requests(10);
  agent.simulated.set_most(3);
  const Outcome outcome =
      RunCtr(agent, {"autoscale", "simulate", "web", "--trace", path, "--set", "min=2"});
  CHECK(outcome.exit_status == 0);
  CHECK(outcome.out.find("SECOND") == 0);
  CHECK(agent.Last().find("arrivals: 10") != std::string::npos);
  CHECK(agent.Last().find("key: \"min\"") != std::string::npos);
  const Json json = Json::parse(
      RunCtr(agent, {"autoscale", "simulate", "web", "--trace", path, "-o", "json"}).out);
  CHECK(json["most"] == 3);
  CHECK(json["steps"][0]["desired"] == 3);
  CHECK(json["steps"][0]["latency_p50_ms"].is_null());
}

TEST_CASE("a trace that is none is refused with the file and its line") {
  FakeAgent agent;
  TempDir dir;
  const std::string path = dir.Path("trace");
  std::ofstream(path) << "hello\n";
  const Outcome outcome = RunCtr(agent, {"autoscale", "simulate", "web", "--trace", path});
  CHECK(outcome.exit_status == 2);
  CHECK(outcome.err.find(path + ": line 1: it is no JSON object") != std::string::npos);
  CHECK(RunCtr(agent, {"autoscale", "simulate", "web", "--trace", "/nowhere"}).exit_status != 0);
}

TEST_CASE("route --explain prints each candidate, and why") {
  FakeAgent agent;
  auto* candidate = agent.explained_route.add_candidates();
  candidate->set_class_("web");
  candidate->set_id("instance-0");
  candidate->set_verdict("full");
  candidate->set_in_flight(4);
  agent.explained_route.set_outcome("all_full");
  const Outcome outcome = RunCtr(agent, {"route", "web", "--explain"});
  CHECK(outcome.out.find("web/instance-0  full") != std::string::npos);
  CHECK(outcome.out.find("all are full") != std::string::npos);
  const Json json = Json::parse(RunCtr(agent, {"route", "web", "--explain", "-o", "json"}).out);
  CHECK(json["candidates"][0]["in_flight"] == 4);
  CHECK(RunCtr(agent, {"route", "web", "--explain", "--random"}).exit_status == 2);
}

}  // namespace
}  // namespace ctr::cli
