#include "agent/base/run_command.h"

#include <doctest/doctest.h>

namespace ctr {

TEST_CASE("a command gets its input and gives its output, however much") {
  const std::string text(3'000'000, 'x');
  StatusOr<std::string> output = RunCommand({"cat"}, text);
  REQUIRE(output.ok());
  CHECK(*output == text);
}

TEST_CASE("a command that fails says why in one line") {
  StatusOr<std::string> output =
      RunCommand({"sh", "-c", "echo first >&2; echo second >&2; exit 3"});
  CHECK(absl::IsAborted(output.status()));
  CHECK(output.status().message().find("failed: first") != absl::string_view::npos);
  CHECK(output.status().message().find("second") == absl::string_view::npos);
}

TEST_CASE("a command that takes too long is ended, with what it started") {
  StatusOr<std::string> output =
      RunCommand({"sh", "-c", "sleep 60 & sleep 60"}, "", std::chrono::milliseconds(50));
  CHECK(absl::IsDeadlineExceeded(output.status()));
}

TEST_CASE("a command that is not there is not found") {
  CHECK(absl::IsNotFound(RunCommand({"ctr-no-such-program"}).status()));
  CHECK(FindProgram("ctr-no-such-program").empty());
  CHECK(FindProgram("sh").ends_with("/sh"));
}

}  // namespace ctr
