#include "cli/settings.h"

#include <doctest/doctest.h>

namespace ctr::cli {
namespace {

using namespace std::chrono_literals;

Settings Resolve(const GlobalFlags& flags, const Environment& environment) {
  StatusOr<Settings> settings = ResolveSettings(flags, environment, 60s);
  REQUIRE_MESSAGE(settings.ok(), settings.status());
  return *settings;
}

std::string ErrorOf(const GlobalFlags& flags, const Environment& environment) {
  StatusOr<Settings> settings = ResolveSettings(flags, environment, 60s);
  CHECK(settings.status().code() == absl::StatusCode::kInvalidArgument);
  return std::string(settings.status().message());
}

TEST_CASE("without flags and environment the defaults hold") {
  Settings settings = Resolve({}, {});
  CHECK(settings.socket_path == "/run/ctr/agent.sock");
  CHECK(settings.class_name == "");
  CHECK(settings.output == Output::kTable);
  CHECK(settings.timeout == Duration(60s));
}

TEST_CASE("the environment beats the default") {
  Settings settings =
      Resolve({}, {{"CTR_HOST", "unix:///a.sock"}, {"CTR_CLASS", "web"}, {"CTR_OUTPUT", "jsonl"}});
  CHECK(settings.socket_path == "/a.sock");
  CHECK(settings.class_name == "web");
  CHECK(settings.output == Output::kJsonLines);
}

TEST_CASE("a flag beats the environment") {
  GlobalFlags flags{.host = "/b.sock", .class_name = "api", .output = "name", .timeout = "5m"};
  Settings settings = Resolve(
      flags, {{"CTR_HOST", "unix:///a.sock"}, {"CTR_CLASS", "web"}, {"CTR_OUTPUT", "jsonl"}});
  CHECK(settings.socket_path == "/b.sock");
  CHECK(settings.class_name == "api");
  CHECK(settings.output == Output::kName);
  CHECK(settings.timeout == Duration(5min));
}

TEST_CASE("an empty variable is as good as none") {
  Settings settings = Resolve({}, {{"CTR_HOST", ""}, {"CTR_CLASS", ""}, {"CTR_OUTPUT", ""}});
  CHECK(settings.socket_path == "/run/ctr/agent.sock");
  CHECK(settings.output == Output::kTable);
}

TEST_CASE("a flag overrides a variable that is wrong") {
  CHECK(Resolve({.output = "json"}, {{"CTR_OUTPUT", "yaml"}}).output == Output::kJson);
}

TEST_CASE("a timeout of 0 is no deadline") {
  CHECK(Resolve({.timeout = "0"}, {}).timeout == std::nullopt);
}

TEST_CASE("an error names the flag or variable that is wrong") {
  CHECK(ErrorOf({.output = "yaml"}, {}) ==
        "--output: \"yaml\" is no format; use table, json, jsonl or name");
  CHECK(ErrorOf({}, {{"CTR_OUTPUT", "yaml"}}).starts_with("CTR_OUTPUT: \"yaml\""));
  CHECK(ErrorOf({}, {{"CTR_HOST", "tcp://h:1"}}).starts_with("CTR_HOST: \"tcp://h:1\""));
  CHECK(ErrorOf({.timeout = "soon"}, {}).starts_with("--timeout: \"soon\""));
}

TEST_CASE("an agent's address is a Unix socket's path") {
  CHECK(*SocketPathOf("unix:///run/x.sock") == "/run/x.sock");
  CHECK(*SocketPathOf("unix:x.sock") == "x.sock");
  CHECK(*SocketPathOf("/run/x.sock") == "/run/x.sock");
  for (const char* host : {"", "unix://", "http://localhost", "x.sock"}) {
    CHECK_MESSAGE(!SocketPathOf(host).ok(), host);
  }
  CHECK(SocketPathOf("/" + std::string(106, 'x')).ok());
  CHECK(!SocketPathOf("/" + std::string(107, 'x')).ok());
}

}  // namespace
}  // namespace ctr::cli
