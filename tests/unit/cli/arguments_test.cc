#include "cli/arguments.h"

#include <unistd.h>

#include <fstream>

#include <doctest/doctest.h>

#include "tests/unit/cli/fake_agent.h"

namespace ctr::cli {
namespace {

using Variables = std::map<std::string, std::string>;

TEST_CASE("an instance is named by its ID, or by class and ID") {
  StatusOr<v1::InstanceRef> ref = ParseInstanceRef("alice", "web");
  REQUIRE(ref.ok());
  CHECK(ref->class_() == "web");
  CHECK(ref->id() == "alice");

  ref = ParseInstanceRef("api/alice", "web");
  REQUIRE(ref.ok());
  CHECK(ref->class_() == "api");
  CHECK(ref->id() == "alice");

  ref = ParseInstanceRef("alice", "");
  REQUIRE(ref.ok());
  CHECK(ref->class_() == "");
}

TEST_CASE("what names no instance is refused before anything is sent") {
  for (const char* text : {"", "/", "/alice", "web/", "a/b/c", "\xff"}) {
    StatusOr<v1::InstanceRef> ref = ParseInstanceRef(text, "web");
    CHECK_MESSAGE(ref.status().code() == absl::StatusCode::kInvalidArgument, text);
  }
}

TEST_CASE("-e takes NAME=VALUE, and NAME from the environment as docker does") {
  Environment environment = {{"HOME", "/root"}, {"EMPTY", ""}};
  CHECK(*ParseVariables({"A=1", "B=x=y", "C="}, {}) ==
        Variables{{"A", "1"}, {"B", "x=y"}, {"C", ""}});
  CHECK(*ParseVariables({"HOME", "EMPTY", "UNSET"}, environment) ==
        Variables{{"HOME", "/root"}, {"EMPTY", ""}});
  CHECK(*ParseVariables({"A=1", "A=2"}, {}) == Variables{{"A", "2"}});
  CHECK(ParseVariables({}, environment)->empty());
}

TEST_CASE("-e refuses a variable without a name, or with bytes that are no text") {
  for (const char* text : {"=x", "", "A=\xff", "\xff=a"}) {
    CHECK_MESSAGE(ParseVariables({text}, {}).status().code() == absl::StatusCode::kInvalidArgument,
                  text);
  }
  CHECK(!ParseVariables({"A"}, {{"A", "\xff"}}).ok());
}

TEST_CASE("UTF-8 is told from what is not") {
  for (const char* text : {"", "abc", "\xC3\xA4", "\xE2\x82\xAC", "\xF0\x9F\x98\x80",
                           "\xEF\xBF\xBF", "\xF4\x8F\xBF\xBF"}) {
    CHECK_MESSAGE(CheckUtf8(text, "it").ok(), text);
  }
  for (const char* text :
       {"\x80", "\xC3", "\xC0\x80", "\xE0\x80\x80", "\xED\xA0\x80", "\xF0\x80\x80\x80",
        "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "a\xE2\x82"}) {
    CHECK_MESSAGE(!CheckUtf8(text, "it").ok(), text);
  }
  CHECK(CheckUtf8("\x80", "the thing").message() == "the thing is not UTF-8 text");
}

TEST_CASE("a file is read whole, unless it is longer than it may be") {
  TempDir dir;
  std::string path = dir.Path("f");
  std::string text(100'000, 'x');
  std::ofstream(path) << text;
  CHECK(*ReadText(path, -1, 100'000) == text);
  CHECK(ReadText(path, -1, 99'999).status().code() == absl::StatusCode::kInvalidArgument);
}

TEST_CASE("\"-\" reads standard input") {
  int pipe[2];
  REQUIRE(::pipe(pipe) == 0);
  REQUIRE(::write(pipe[1], "hello", 5) == 5);
  ::close(pipe[1]);
  CHECK(*ReadText("-", pipe[0], 100) == "hello");
  ::close(pipe[0]);
}

TEST_CASE("a file that cannot be read is a failure that names it") {
  Status missing = ReadText("/nonexistent/f", -1, 10).status();
  CHECK(missing.message() == "cannot read /nonexistent/f: No such file or directory");
  CHECK(missing.code() == absl::StatusCode::kAborted);
  CHECK(ReadText("/", -1, 10).status().message() == "cannot read /: Is a directory");
}

}  // namespace
}  // namespace ctr::cli
