#include <doctest/doctest.h>

#include "tests/unit/cli/command_line.h"

namespace ctr::cli {
namespace {

void Add(v1::LogRecords& logs, v1::LogRecord::Stream stream, const std::string& data,
         bool partial = false, uint64_t generation = 1) {
  v1::LogRecord& record = *logs.add_records();
  record.set_time_ns(1'764'061'200'123'456'789);
  record.set_stream(stream);
  record.set_data(data);
  record.set_partial(partial);
  record.set_generation(generation);
}

v1::LogRecords Sample() {
  v1::LogRecords logs;
  Add(logs, v1::LogRecord::STREAM_STDOUT, "one");
  Add(logs, v1::LogRecord::STREAM_STDOUT, std::string("t\0w", 3), true);
  Add(logs, v1::LogRecord::STREAM_STDERR, "bad");
  Add(logs, v1::LogRecord::STREAM_STDOUT, "o");
  Add(logs, v1::LogRecord::STREAM_STDOUT, "end", true);
  return logs;
}

TEST_CASE("logs prints what was written as it was, each stream on its own") {
  FakeAgent agent;
  agent.logs = Sample();
  Outcome outcome = RunCtr(agent, {"logs", "web/alice", "--tail", "5", "-f"});
  CHECK(outcome.exit_status == 0);
  CHECK(outcome.out == std::string("one\nt\0wo\nend", 12));
  CHECK(outcome.err == "bad\n");
  CHECK(agent.Last().find("tail: 5") != std::string::npos);
  CHECK(agent.Last().find("follow: true") != std::string::npos);
}

TEST_CASE("what one start left without a newline is not joined to the next one's line") {
  FakeAgent agent;
  Add(agent.logs, v1::LogRecord::STREAM_STDOUT, "first", true, 1);
  Add(agent.logs, v1::LogRecord::STREAM_STDOUT, "second", false, 2);
  CHECK(RunCtr(agent, {"logs", "alice"}).out == "first\nsecond\n");
  const std::string lines = RunCtr(agent, {"logs", "alice", "-o", "jsonl"}).out;
  CHECK(lines.find("\"text\":\"first\"}\n") != std::string::npos);
  CHECK(lines.find("\"text\":\"second\"}\n") != std::string::npos);
}

TEST_CASE("a start begins a line of its own, whatever stream the one before left open") {
  FakeAgent agent;
  Add(agent.logs, v1::LogRecord::STREAM_STDOUT, "first", true, 1);
  Add(agent.logs, v1::LogRecord::STREAM_STDERR, "second", false, 2);
  CHECK(RunCtr(agent, {"logs", "alice"}).out == "first\n");
  const std::string lines = RunCtr(agent, {"logs", "alice", "-o", "jsonl"}).out;
  CHECK(lines.find("\"first\"") < lines.find("\"second\""));
}

TEST_CASE("-t shows the time once for each line, and streams do not share one") {
  FakeAgent agent;
  agent.logs = Sample();
  const std::string time = "2025-11-25T09:00:00.123456789Z ";
  Outcome outcome = RunCtr(agent, {"logs", "-t", "alice"});
  CHECK(outcome.out ==
        time + "one\n" + time + std::string("t\0w\n", 4) + time + "o\n" + time + "end");
  CHECK(outcome.err == time + "bad\n");
}

TEST_CASE("as JSON a line is one object with time, stream and text") {
  FakeAgent agent;
  Add(agent.logs, v1::LogRecord::STREAM_STDOUT, "on", true);
  Add(agent.logs, v1::LogRecord::STREAM_STDERR, "bad");
  Add(agent.logs, v1::LogRecord::STREAM_STDOUT, "e");
  const std::string bad =
      R"({"time":"2025-11-25T09:00:00.123456789Z","stream":"stderr","text":"bad"})";
  const std::string one =
      R"({"time":"2025-11-25T09:00:00.123456789Z","stream":"stdout","text":"one"})";
  CHECK(RunCtr(agent, {"logs", "alice", "-o", "jsonl"}).out == bad + "\n" + one + "\n");
  CHECK(Json::parse(RunCtr(agent, {"logs", "alice", "-o", "json"}).out) ==
        Json::parse("[" + bad + "," + one + "]"));
  CHECK(RunCtr(agent, {"logs", "-f", "alice", "-o", "json"}).out == bad + "\n" + one + "\n");
}

TEST_CASE("missing output is said on stderr") {
  FakeAgent agent;
  agent.logs.add_records()->set_lost_bytes(12);
  agent.logs.add_records()->set_lost_bytes(-1);
  Outcome outcome = RunCtr(agent, {"logs", "alice"});
  CHECK(outcome.out.empty());
  CHECK(outcome.err.find("12 bytes") != std::string::npos);
  CHECK(outcome.err.find("rotated away") != std::string::npos);
}

TEST_CASE("run passes its command, output and exit status on") {
  FakeAgent agent;
  agent.logs = Sample();
  agent.run_exit_code = 42;
  Outcome outcome = RunCtr(agent, {"run", "web/job", "-e", "A=b", "--", "sh", "-c", "exit 42"});
  CHECK(outcome.exit_status == 42);
  CHECK(outcome.out == std::string("one\nt\0wo\nend", 12));
  CHECK(outcome.err == "bad\n");
  for (const char* part : {"command: \"sh\"", "command: \"-c\"", "command: \"exit 42\"", "\"b\""}) {
    CAPTURE(part);
    CHECK(agent.Last().find(part) != std::string::npos);
  }
}

TEST_CASE("a run that is refused has the refusal's exit status") {
  FakeAgent agent;
  agent.FailOn("busy", grpc::StatusCode::FAILED_PRECONDITION, "conflict", "web/busy already runs");
  Outcome outcome = RunCtr(agent, {"run", "web/busy"});
  CHECK(outcome.exit_status == 4);
  CHECK(outcome.err == "ctr: web/busy already runs\n");
}

}  // namespace
}  // namespace ctr::cli
