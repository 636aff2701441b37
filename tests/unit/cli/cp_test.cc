#include <doctest/doctest.h>

#include "cli/copy_side.h"
#include "tests/unit/cli/command_line.h"

namespace ctr::cli {
namespace {

const Environment kNowhere = {{"CTR_HOST", "unix:///nonexistent/agent.sock"}};

TEST_CASE("a side of a copy is in an instance if it has an ID and a colon before the path") {
  struct {
    const char* text;
    const char* instance;
    const char* path;
  } cases[] = {{"alice:/etc/motd", "alice", "/etc/motd"},
               {"web/alice:data", "web/alice", "data"},
               {"web/alice:/a:b", "web/alice", "/a:b"},
               {"./a:b", "", "./a:b"},
               {"/a:b", "", "/a:b"},
               {"../a:b", "", "../a:b"},
               {"dir/file", "", "dir/file"},
               {"-", "", "-"}};
  for (const auto& one : cases) {
    CAPTURE(one.text);
    StatusOr<CopySide> side = ParseCopySide(one.text);
    REQUIRE(side.ok());
    CHECK(side->instance == one.instance);
    CHECK(side->path == one.path);
  }
  for (const char* text : {"", ":/x", "alice:"}) {
    CAPTURE(text);
    CHECK_FALSE(ParseCopySide(text).ok());
  }
}

TEST_CASE("a copy without an instance, or with two, is a mistake of the caller") {
  Outcome local = RunCtr({"cp", "/tmp/a", "/tmp/b"}, kNowhere);
  CHECK(local.exit_status == 2);
  CHECK(local.err.find("one side must be in an instance") != std::string::npos);
  Outcome both = RunCtr({"cp", "web/a:/x", "web/b:/x"}, kNowhere);
  CHECK(both.exit_status == 2);
  CHECK(both.err.find("ctr cp ID:PATH - | ctr cp - ID:DIR") != std::string::npos);
  CHECK(RunCtr({"cp", "web/a:/x"}, kNowhere).exit_status == 2);
  CHECK(RunCtr({"cp", "a/b/c:/x", "y"}, kNowhere).exit_status == 2);
}

TEST_CASE("a copy to an agent that is not there, or that knows none, says so") {
  CHECK(RunCtr({"cp", "/etc/hostname", "web/a:/x"}, kNowhere).exit_status == 5);
  CHECK(RunCtr({"cp", "web/a:/x", "/tmp/ctr-cp-none"}, kNowhere).exit_status == 5);
  FakeAgent old;
  Outcome in = RunCtr(old, {"cp", "/etc/hostname", "web/a:/x"});
  CHECK(in.exit_status == 1);
  CHECK(in.err.find("update ctr-agent") != std::string::npos);
  CHECK(RunCtr(old, {"cp", "web/a:/x", "/tmp/ctr-cp-none"}).exit_status == 1);
}

TEST_CASE("a source that is not there is an error before anything is sent") {
  FakeAgent agent;
  Outcome outcome = RunCtr(agent, {"cp", "/nonexistent/file", "web/a:/x"});
  CHECK(outcome.exit_status == 3);
  CHECK(outcome.err.find("/nonexistent/file") != std::string::npos);
}

}  // namespace
}  // namespace ctr::cli
