#include <doctest/doctest.h>

#include "tests/unit/cli/command_line.h"

namespace ctr::cli::exec_test {
namespace {

const Environment kNowhere = {{"CTR_HOST", "unix:///nonexistent/agent.sock"}};

TEST_CASE("exec without a command, or with -it off a terminal, is a mistake of the caller") {
  Outcome missing = RunCtr({"exec", "web/alice"}, kNowhere);
  CHECK(missing.exit_status == 2);
  CHECK(missing.err.find("a command is missing") != std::string::npos);
  CHECK(RunCtr({"exec", "web/alice", "--"}, kNowhere).exit_status == 2);
  Outcome terminal = RunCtr({"exec", "-it", "web/alice", "sh"}, kNowhere);
  CHECK(terminal.exit_status == 2);
  CHECK(terminal.err.find("-t needs a terminal") != std::string::npos);
  CHECK(RunCtr({"exec", "a/b/c", "sh"}, kNowhere).exit_status == 2);
}

TEST_CASE("exec's own failures are 125, so that they are not taken for the command's") {
  Outcome away = RunCtr({"exec", "web/alice", "true"}, kNowhere);
  CHECK(away.exit_status == 125);
  CHECK(away.err.find("cannot reach the agent") != std::string::npos);
  FakeAgent old;
  CHECK(RunCtr(old, {"exec", "web/alice", "--", "true"}).exit_status == 125);
}

TEST_CASE("what follows the command belongs to it, also what looks like ctr's flags") {
  // An unknown flag before the command is ctr's, and refused; after it, it is passed on.
  CHECK(RunCtr({"exec", "--nope", "web/alice", "true"}, kNowhere).exit_status == 2);
  CHECK(RunCtr({"exec", "web/alice", "ls", "--nope", "-t"}, kNowhere).exit_status == 125);
  CHECK(RunCtr({"exec", "web/alice", "--", "ls", "--help"}, kNowhere).exit_status == 125);
}

}  // namespace
}  // namespace ctr::cli::exec_test
