#include <doctest/doctest.h>

#include "tests/unit/cli/command_line.h"

// The verbs about instances, from arguments to requests and from answers to output.
namespace ctr::cli {
namespace {

v1::Instance Job(const std::string& id) {
  v1::Instance job;
  job.set_class_("batch");
  job.set_id(id);
  job.set_state("stopped");
  job.set_reason("exited");
  job.set_exit_code(3);
  return job;
}

TEST_CASE("get prints the URL alone") {
  FakeAgent agent;
  Outcome outcome = RunCtr(agent, {"get", "web/alice"});
  CHECK(outcome.exit_status == 0);
  CHECK(outcome.out == "http://127.77.0.2:8080\n");
  CHECK(outcome.err == "");
  CHECK(agent.Last() == R"(ref { class: "web" id: "alice" })");
}

TEST_CASE("get prints the bare address, the name or JSON if asked to") {
  FakeAgent agent;
  CHECK(RunCtr(agent, {"get", "alice", "--address"}).out == "127.77.0.2\n");
  CHECK(RunCtr(agent, {"get", "alice", "-o", "name"}).out == "web/alice\n");
  Json json = Json::parse(RunCtr(agent, {"get", "alice", "-o", "json"}).out);
  CHECK(json["class"] == "web");
  CHECK(json["url"] == "http://127.77.0.2:8080");
}

TEST_CASE("get sends its flags, and variables with the last of a name") {
  FakeAgent agent;
  Environment environment = {{"FROM", "here"}};
  Outcome outcome = RunCtr(agent,
                           {"get", "-e", "A=1", "-e", "FROM", "--env", "A=2", "-e", "MISSING",
                            "alice", "--no-start", "--no-wait"},
                           environment);
  CHECK(outcome.exit_status == 0);
  std::string last = agent.Last();
  CHECK(last.find("no_start: true no_wait: true") != std::string::npos);
  CHECK(last.find(R"(env { key: "A" value: "2" })") != std::string::npos);
  CHECK(last.find(R"(env { key: "FROM" value: "here" })") != std::string::npos);
  CHECK(last.find("MISSING") == std::string::npos);
}

TEST_CASE("get of a job prints its name, as it has no URL") {
  FakeAgent agent;
  agent.Add(Job("nightly"));
  CHECK(RunCtr(agent, {"get", "batch/nightly"}).out == "batch/nightly\n");
  Outcome outcome = RunCtr(agent, {"get", "batch/nightly", "--address"});
  CHECK(outcome.exit_status == 4);
  CHECK(outcome.out == "");
}

TEST_CASE("the class is the name's own, else -c, else CTR_CLASS, else the agent's to find") {
  FakeAgent agent;
  Environment environment = {{"CTR_CLASS", "env"}};
  RunCtr(agent, {"get", "own/x", "-c", "flag"}, environment);
  CHECK(agent.Last() == R"(ref { class: "own" id: "x" })");
  RunCtr(agent, {"get", "x", "-c", "flag"}, environment);
  CHECK(agent.Last() == R"(ref { class: "flag" id: "x" })");
  RunCtr(agent, {"-c", "flag", "get", "x"}, environment);
  CHECK(agent.Last() == R"(ref { class: "flag" id: "x" })");
  RunCtr(agent, {"get", "x"}, environment);
  CHECK(agent.Last() == R"(ref { class: "env" id: "x" })");
  RunCtr(agent, {"get", "x"});
  CHECK(agent.Last() == R"(ref { id: "x" })");
}

TEST_CASE("a flag after the verb beats the same flag before it") {
  FakeAgent agent;
  RunCtr(agent, {"-c", "before", "get", "x", "-c", "after"});
  CHECK(agent.Last() == R"(ref { class: "after" id: "x" })");
}

TEST_CASE("what the agent refuses is one line on stderr, or JSON on stdout") {
  FakeAgent agent;
  agent.FailOn("alice", grpc::StatusCode::FAILED_PRECONDITION, "manual_start",
               "web/alice is\nmanual");
  Outcome outcome = RunCtr(agent, {"get", "alice"});
  CHECK(outcome.exit_status == 4);
  CHECK(outcome.out == "");
  CHECK(outcome.err == "ctr: web/alice is manual\n");

  outcome = RunCtr(agent, {"-o", "jsonl", "get", "alice"});
  CHECK(outcome.exit_status == 4);
  CHECK(outcome.out ==
        "{\"error\":{\"code\":\"manual_start\",\"message\":\"web/alice is\\nmanual\"}}\n");
  CHECK(outcome.err == "");
}

TEST_CASE("start keeps the words of an entrypoint apart, dashes included") {
  FakeAgent agent;
  Outcome outcome = RunCtr(agent, {"start", "alice", "--entrypoint", "/bin/sh", "--entrypoint",
                                   "-c", "--entrypoint", "[a,b]", "--entrypoint", "", "--no-wait"});
  CHECK(outcome.exit_status == 0);
  CHECK(outcome.out == "web/alice\n");
  CHECK(agent.Last() ==
        R"(ref { id: "alice" } no_wait: true entrypoint: "/bin/sh" entrypoint: "-c" )"
        R"(entrypoint: "[a,b]" entrypoint: "")");
}

TEST_CASE("stop sends the signal's number and the grace in milliseconds") {
  FakeAgent agent;
  for (const char* signal : {"TERM", "SIGTERM", "sigterm", "15"}) {
    CHECK(RunCtr(agent, {"stop", "alice", "--signal", signal, "-t", "1.5s"}).out == "web/alice\n");
    CHECK(agent.Last() == R"(ref { id: "alice" } signal: 15 grace_ms: 1500)");
  }
  RunCtr(agent, {"stop", "alice", "-t0"});
  CHECK(agent.Last() == R"(ref { id: "alice" } grace_ms: 0)");
  RunCtr(agent, {"stop", "alice"});
  CHECK(agent.Last() == R"(ref { id: "alice" })");
}

TEST_CASE("a signal or a grace that is none is a usage error that sends nothing") {
  FakeAgent agent;
  CHECK(RunCtr(agent, {"stop", "alice", "--signal", "FOO"}).exit_status == 2);
  CHECK(RunCtr(agent, {"stop", "alice", "-t", "soon"}).exit_status == 2);
  CHECK(agent.Last() == "");
}

TEST_CASE("several instances are stopped at once") {
  FakeAgent agent;
  agent.GatherStops(3);
  Outcome outcome = RunCtr(agent, {"stop", "c", "a", "b"});
  CHECK(outcome.exit_status == 0);
  CHECK(outcome.out == "web/c\nweb/a\nweb/b\n");
}

TEST_CASE("all of several are tried, and the first that failed gives the exit status") {
  FakeAgent agent;
  agent.FailOn("b", grpc::StatusCode::NOT_FOUND, "unknown_instance", "there is no web/b");
  agent.FailOn("c", grpc::StatusCode::FAILED_PRECONDITION, "conflict", "busy");
  Outcome outcome = RunCtr(agent, {"restart", "a", "b", "web/c", "d"});
  CHECK(outcome.exit_status == 3);
  CHECK(outcome.out == "web/a\nweb/d\n");
  CHECK(outcome.err == "ctr: there is no web/b\nctr: web/c: busy\n");
}

TEST_CASE("more instances than there are threads are all served") {
  FakeAgent agent;
  std::vector<std::string> args = {"destroy"};
  std::string expected;
  for (int i = 0; i < 100; ++i) {
    args.push_back("i" + std::to_string(i));
    expected += "web/i" + std::to_string(i) + "\n";
  }
  CHECK(RunCtr(agent, args).out == expected);
}

TEST_CASE("one name that is none stops a command before it begins") {
  FakeAgent agent;
  Outcome outcome = RunCtr(agent, {"destroy", "a", "b/"});
  CHECK(outcome.exit_status == 2);
  CHECK(agent.Last() == "");
}

TEST_CASE("one ID gives a JSON object, several an array with each one's error") {
  FakeAgent agent;
  agent.FailOn("b", grpc::StatusCode::NOT_FOUND, "unknown_instance", "there is no web/b");
  Json one = Json::parse(RunCtr(agent, {"rm", "a", "-o", "json"}).out);
  CHECK(one["state"] == "destroyed");
  CHECK(one["id"] == "a");
  CHECK(one["url"].is_null());

  Outcome outcome = RunCtr(agent, {"rm", "a", "b", "-o", "json"});
  CHECK(outcome.exit_status == 3);
  CHECK(outcome.err == "");
  Json array = Json::parse(outcome.out);
  REQUIRE(array.size() == 2);
  CHECK(array[0]["id"] == "a");
  CHECK(array[1].dump() == R"({"class":null,"id":"b","error":{"code":"unknown_instance",)"
                           R"("message":"there is no web/b"}})");

  outcome = RunCtr(agent, {"rm", "b", "-o", "json"});
  CHECK(Json::parse(outcome.out)["error"]["code"] == "unknown_instance");
}

TEST_CASE("ls prints a table, names, an array or lines") {
  FakeAgent agent;
  agent.Add(Job("one"));
  agent.Add(Job("two"));
  CHECK(RunCtr(agent, {"ls", "-a"}).out ==
        "INSTANCE   STATE    REASON      AGE  URL  STARTS  IN-FLIGHT  REVISION\n"
        "batch/one  stopped  exited (3)  -    -    0       0          -\n"
        "batch/two  stopped  exited (3)  -    -    0       0          -\n");
  CHECK(agent.Last() == "all: true");
  CHECK(RunCtr(agent, {"ps", "-q", "-c", "batch"}).out == "batch/one\nbatch/two\n");
  CHECK(agent.Last() == R"(class: "batch")");
  CHECK(RunCtr(agent, {"ls", "-o", "name"}).out == "batch/one\nbatch/two\n");
  CHECK(Json::parse(RunCtr(agent, {"ls", "-o", "json"}).out)[1]["id"] == "two");
  std::string lines = RunCtr(agent, {"ls"}, {{"CTR_OUTPUT", "jsonl"}}).out;
  CHECK(std::count(lines.begin(), lines.end(), '\n') == 2);
}

TEST_CASE("ls of nothing is an empty array, and no line of JSON lines") {
  FakeAgent agent;
  CHECK(RunCtr(agent, {"ls", "-o", "json"}).out == "[]\n");
  CHECK(RunCtr(agent, {"ls", "-o", "jsonl"}).out == "");
}

TEST_CASE("colours are for terminals whose user wants them") {
  FakeAgent agent;
  agent.Add(Job("one"));
  auto coloured = [&](bool terminal, Environment environment) {
    std::ostringstream out;
    std::ostringstream err;
    environment["CTR_HOST"] = agent.host();
    Io io{.out = out, .err = err, .out_is_terminal = terminal};
    Run({"ls"}, environment, io);
    return out.str().find('\x1b') != std::string::npos;
  };
  CHECK(coloured(true, {}));
  CHECK(!coloured(false, {}));
  CHECK(!coloured(true, {{"NO_COLOR", "1"}}));
  CHECK(!coloured(true, {{"TERM", "dumb"}}));
  CHECK(coloured(true, {{"NO_COLOR", ""}, {"TERM", "xterm"}}));
}

TEST_CASE("inspect prints JSON, whatever the format") {
  FakeAgent agent;
  agent.inspected.set_pid(77);
  CHECK(Json::parse(RunCtr(agent, {"inspect", "alice"}).out)["pid"] == 77);
  std::string line = RunCtr(agent, {"inspect", "alice", "-o", "jsonl"}).out;
  CHECK(std::count(line.begin(), line.end(), '\n') == 1);
  CHECK(RunCtr(agent, {"inspect", "alice", "-o", "name"}).out == "web/alice\n");
}

TEST_CASE("route takes the class as an argument, and --random with or without a count") {
  FakeAgent agent;
  CHECK(RunCtr(agent, {"route", "web"}).out == "http://127.77.0.2:8080\n");
  CHECK(agent.Last() == R"(class: "web")");
  RunCtr(agent, {"route", "--random", "web"});
  CHECK(agent.Last() == R"(class: "web" random: true)");
  RunCtr(agent, {"route", "web", "--random=3"});
  CHECK(agent.Last() == R"(class: "web" random: true instances: 3)");
  RunCtr(agent, {"route", "-c", "api"});
  CHECK(agent.Last() == R"(class: "api")");
  for (const char* random : {"--random=0", "--random=x", "--random=-1", "--random=99999999999"}) {
    CHECK_MESSAGE(RunCtr(agent, {"route", random}).exit_status == 2, random);
  }
}

TEST_CASE("renew prints the name") {
  FakeAgent agent;
  CHECK(RunCtr(agent, {"renew", "alice"}).out == "web/alice\n");
}

TEST_CASE("wait prints the exit code of what stopped, and nothing else") {
  FakeAgent agent;
  agent.Add(Job("nightly"));
  CHECK(RunCtr(agent, {"wait", "nightly", "--for", "stopped"}).out == "3\n");
  CHECK(RunCtr(agent, {"wait", "nightly"}).out == "3\n");
  CHECK(agent.Last() == R"(ref { id: "nightly" } state: "stopped")");
  CHECK(RunCtr(agent, {"wait", "alice", "--for", "healthy"}).out == "");
  CHECK(RunCtr(agent, {"wait", "alice", "--for", "healthy", "-o", "name"}).out == "web/alice\n");
}

}  // namespace
}  // namespace ctr::cli
