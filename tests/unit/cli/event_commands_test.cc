#include <doctest/doctest.h>

#include "cli/complete.h"
#include "cli/event_text.h"
#include "tests/unit/cli/command_line.h"

// The verbs that tell what happened and what is used, and what the shells complete.
namespace ctr::cli {
namespace {

constexpr int64_t kAtMs = 1'795'467'600'250;  // 2026-11-23T21:00:00.250Z

v1::Event MakeEvent(const std::string& type, const std::string& id, const std::string& message,
                    const std::string& cause) {
  v1::Event event;
  event.set_number(7);
  event.set_at_ms(kAtMs);
  event.set_type(type);
  event.set_class_("web");
  event.set_id(id);
  event.set_message(message);
  event.set_cause(cause);
  return event;
}

v1::Instance MakeInstance(const std::string& class_name, const std::string& id) {
  v1::Instance instance;
  instance.set_class_(class_name);
  instance.set_id(id);
  instance.set_state("healthy");
  return instance;
}

v1::ListEventsResponse Batch(const std::vector<v1::Event>& events) {
  v1::ListEventsResponse response;
  for (const v1::Event& event : events) *response.add_events() = event;
  return response;
}

TEST_CASE("events are a table whose columns are as wide as what came") {
  FakeAgent agent;
  v1::Event exited = MakeEvent("exited", "alice", "", "");
  exited.set_exit_code(3);
  agent.events = {Batch({MakeEvent("wake", "alice", "", "GET /x from 10.0.0.1"), exited}),
                  Batch({MakeEvent("class_applied", "", "created", "ctr class apply")})};
  Outcome outcome = RunCtr(agent, {"events"});
  CHECK(outcome.exit_status == 0);
  CHECK(outcome.out ==
        "TIME                      TYPE          INSTANCE              MESSAGE\n"
        "2026-11-23T21:00:00.250Z  wake          web/alice             [GET /x from 10.0.0.1]\n"
        "2026-11-23T21:00:00.250Z  exited        web/alice             (exit status 3)\n"
        "2026-11-23T21:00:00.250Z  class_applied  class/web             created [ctr class "
        "apply]\n");
  CHECK(outcome.err.empty());
  CHECK(agent.Last() == "limit: 1000");
}

TEST_CASE("events as JSON lines have every key") {
  FakeAgent agent;
  agent.events = {Batch({MakeEvent("wake", "alice", "", "GET /x from 10.0.0.1")})};
  CHECK(RunCtr(agent, {"events", "-f", "-o", "jsonl"}).out ==
        R"({"number":7,"time":"2026-11-23T21:00:00.250Z","type":"wake","class":"web","id":"alice",)"
        R"("generation":null,"message":null,"cause":"GET /x from 10.0.0.1","exit_code":null})"
        "\n");
  CHECK(agent.Last() == "limit: 1000 follow: true");
  Json array = Json::parse(RunCtr(agent, {"events", "-o", "json"}).out);
  REQUIRE(array.size() == 1);
  CHECK(array[0]["id"] == "alice");
  agent.events.clear();
  CHECK(RunCtr(agent, {"events", "-o", "json"}).out == "[]\n");
}

TEST_CASE("events are asked for by instance, class, type and time") {
  FakeAgent agent;
  RunCtr(agent, {"events", "web/alice", "--type", "wake", "--type", "slept"});
  CHECK(agent.Last() == R"(class: "web" id: "alice" types: "wake" types: "slept" limit: 1000)");
  RunCtr(agent, {"events", "-c", "web", "--since", "2026-11-23T21:00:00.250Z"});
  CHECK(agent.Last() == R"(class: "web" since_ms: 1795467600250)");
  RunCtr(agent, {"events", "alice", "-n", "5"});
  CHECK(agent.Last() == R"(id: "alice" limit: 5)");
}

TEST_CASE("events say when older ones are left out, and when there are none") {
  FakeAgent agent;
  agent.events = {Batch({MakeEvent("wake", "alice", "", "")})};
  agent.events[0].set_cut(true);
  CHECK(RunCtr(agent, {"events"}).err == "ctr: older events are left out; all of them: -n 0\n");
  agent.events.clear();
  CHECK(RunCtr(agent, {"events"}).err == "ctr: there are no such events\n");
}

TEST_CASE("events: what cannot be is refused before the agent is asked") {
  FakeAgent agent;
  CHECK(RunCtr(agent, {"events", "--since", "yesterday"}).exit_status == 2);
  CHECK(RunCtr(agent, {"events", "-f", "-o", "json"}).exit_status == 2);
  CHECK(RunCtr(agent, {"events", "a/b/c"}).exit_status == 2);
  CHECK(agent.Last().empty());
}

TEST_CASE("events: an agent that stops ends the stream with a message") {
  FakeAgent agent;
  agent.events_end = grpc::Status(grpc::StatusCode::CANCELLED, "");
  Outcome outcome = RunCtr(agent, {"events", "-f"});
  CHECK(outcome.exit_status == 5);
  CHECK(outcome.err == "ctr: the agent ended the call, as it does when it stops\n");
}

TEST_CASE("what an instance says is no command to the terminal") {
  FakeAgent agent;
  agent.events = {Batch({MakeEvent("exited", "alice", "bad\x1b[2Jmessage\nnext", "")})};
  const std::string out = RunCtr(agent, {"events"}).out;
  CHECK(out.find('\x1b') == std::string::npos);
  CHECK(std::count(out.begin(), out.end(), '\n') == 2);
}

TEST_CASE("why prints the sentences, and the newest events below") {
  FakeAgent agent;
  agent.Add(MakeInstance("web", "alice"));
  agent.explained.add_sentences("web/alice is well.");
  agent.explained.add_sentences("Nothing is in flight.");
  for (int i = 0; i < 15; ++i) {
    *agent.explained.add_events() = MakeEvent("wake", "alice", std::to_string(i), "");
  }
  Outcome outcome = RunCtr(agent, {"why", "web/alice"});
  CHECK(outcome.exit_status == 0);
  CHECK(outcome.out.starts_with(
      "web/alice is well.\nNothing is in flight.\n\nWhat led there:\nTIME  "));
  CHECK(std::count(outcome.out.begin(), outcome.out.end(), '\n') == 4 + 1 + 10 - 0);
  Json json = Json::parse(RunCtr(agent, {"why", "web/alice", "-o", "json"}).out);
  CHECK(json["id"] == "alice");
  CHECK(json["state"] == "healthy");
  CHECK(json["sentences"].size() == 2);
  CHECK(json["events"].size() == 15);
  agent.FailOn("nobody", grpc::StatusCode::NOT_FOUND, "unknown_instance", "no web/nobody");
  CHECK(RunCtr(agent, {"why", "web/nobody"}).exit_status == 3);
}

v1::ListStatsResponse StatsAt(int64_t at_us, int64_t cpu_us) {
  v1::ListStatsResponse response;
  v1::InstanceStats* stats = response.add_stats();
  *stats->mutable_instance() = MakeInstance("web", "alice");
  stats->set_sampled_at_us(at_us);
  stats->set_cpu_time_us(cpu_us);
  return response;
}

TEST_CASE("stats asks twice and prints the rates; off a terminal top does the same") {
  for (const char* verb : {"stats", "top"}) {
    FakeAgent agent;
    agent.stats = {StatsAt(1'000'000, 0), StatsAt(2'000'000, 250'000)};
    Outcome outcome = RunCtr(agent, {verb, "-o", "jsonl"});
    CHECK(outcome.exit_status == 0);
    CHECK(Json::parse(outcome.out)["cpu_percent"] == 25.0);
    CHECK(RunCtr(agent, {verb, "web/alice", "-a"}).out.find("web/alice  healthy") !=
          std::string::npos);
    CHECK(agent.Last() == R"(all: true refs { class: "web" id: "alice" })");
  }
}

TEST_CASE("a shell without a script is refused") {
  CHECK(RunCtr({"completion", "tcsh"}, {}).exit_status == 2);
  for (const char* shell : {"bash", "zsh", "fish"}) {
    CHECK(RunCtr({"completion", shell}, {}).out.find("__complete") != std::string::npos);
  }
}

using Words = std::vector<std::string>;

Words Completed(const FakeAgent& agent, Words words, Environment environment = {}) {
  environment["CTR_HOST"] = agent.host();
  return Complete(words, environment);
}

TEST_CASE("verbs are completed, also those of two words") {
  CHECK(Complete({"ins"}, {}) == Words{"inspect"});
  CHECK(Complete({"class", ""}, {}) == Words{"apply", "ls", "rm", "show"});
  CHECK(Complete({"-c", "web", "class", "s"}, {}) == Words{"show"});
  CHECK(Complete({"completion", ""}, {}) == Words{"bash", "zsh", "fish"});
  CHECK(Complete({"frobnicate", "x"}, {}).empty());
  CHECK_FALSE(Complete({""}, {}).empty());
  CHECK_FALSE(Complete({}, {}).empty());
}

TEST_CASE("flags of the verb and of ctr are completed, and their values") {
  CHECK(Complete({"get", "--no-s"}, {}) == Words{"--no-start"});
  CHECK(Complete({"get", "--hos"}, {}) == Words{"--host"});
  CHECK(Complete({"ls", "-o", "json"}, {}) == Words{"json", "jsonl"});
  CHECK(Complete({"ls", "--output=ta"}, {}) == Words{"--output=table"});
  CHECK(Complete({"wait", "a", "--for", "he"}, {}) == Words{"healthy"});
  CHECK(Complete({"class", "apply", "-f", "we"}, {}) == Words{kFilesWanted});
}

TEST_CASE("IDs are completed as they may be written: bare where the class is known") {
  FakeAgent agent;
  agent.Add(MakeInstance("web", "alice"));
  agent.Add(MakeInstance("web", "albert"));
  CHECK(Completed(agent, {"get", "al"}) == Words{"albert", "alice"});
  CHECK(Completed(agent, {"get", "web/al"}) == Words{"web/albert", "web/alice"});
  agent.Add(MakeInstance("db", "main"));
  CHECK(Completed(agent, {"get", "al"}).empty());
  CHECK(Completed(agent, {"get", ""}) == Words{"web/albert", "web/alice", "db/main"});
  CHECK(Completed(agent, {"-c", "web", "stop", "-t", "5s", "x", "ali"}) == Words{"alice"});
  CHECK(agent.Last() == R"(class: "web" all: true)");
  CHECK(Completed(agent, {"inspect", "ali"}, {{"CTR_CLASS", "web"}}) == Words{"alice"});
}

TEST_CASE("classes and images are completed") {
  FakeAgent agent;
  agent.classes.add_classes()->set_name("web");
  agent.classes.add_classes()->set_name("db");
  agent.images.add_images()->set_reference("docker.io/library/demo:latest");
  CHECK(Completed(agent, {"class", "rm", "w"}) == Words{"web"});
  CHECK(Completed(agent, {"ls", "-c", ""}) == Words{"web", "db"});
  CHECK(Completed(agent, {"ls", "--class=d"}) == Words{"--class=db"});
  CHECK(Completed(agent, {"route", "d"}) == Words{"db"});
  CHECK(Completed(agent, {"image", "rm", "docker.io/library/demo:l"}) ==
        Words{"docker.io/library/demo:latest"});
}

TEST_CASE("cp completes files, and instances with the colon that their path follows") {
  FakeAgent agent;
  agent.Add(MakeInstance("web", "alice"));
  CHECK(Completed(agent, {"cp", "al"}) == Words{"alice:", kFilesWanted});
  CHECK(Completed(agent, {"cp", "file", "web/"}) == Words{"web/alice:", kFilesWanted});
  CHECK(Completed(agent, {"cp", "-a", "./"}) == Words{kFilesWanted});
  CHECK(Completed(agent, {"cp", "./a:b"}) == Words{kFilesWanted});
  // What is in there are no files of here.
  CHECK(Completed(agent, {"cp", "file", "alice:"}).empty());
  CHECK(Completed(agent, {"cp", "file", "web/alice:/etc/h"}).empty());
}

TEST_CASE("events --limit is a number, and a wrong one is refused in our words") {
  FakeAgent agent;
  for (const char* wrong : {"-3", "many", ""}) {
    Outcome outcome = RunCtr(agent, {"events", "--limit", wrong});
    CHECK(outcome.exit_status == 2);
    CHECK(outcome.err.find("is no number of events") != std::string::npos);
  }
}

TEST_CASE("without an agent completion is silent") {
  Outcome outcome = RunCtr({"__complete", "get", ""}, {{"CTR_HOST", "unix:///nowhere/agent.sock"}});
  CHECK(outcome.exit_status == 0);
  CHECK(outcome.out.empty());
  CHECK(outcome.err.empty());
}

}  // namespace
}  // namespace ctr::cli
