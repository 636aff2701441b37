#include "agent/runtime/oci_spec.h"

#include <algorithm>
#include <fstream>
#include <sstream>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

using nlohmann::json;

namespace ctr {
namespace {

using Strings = std::vector<std::string>;

OciHost TestHost() {
  OciHost host;
  host.seccomp = R"({"defaultAction":"SCMP_ACT_ERRNO"})";
  host.masked_paths = {"/sys/devices/system/cpu/cpu0/thermal_throttle"};
  host.swap_limit = true;
  host.nofile_hard = 20000;
  return host;
}

OciSpecInput TestInput() {
  OciSpecInput input;
  input.image.entrypoint = {"/bin/server"};
  input.image.cmd = {"--port", "8080"};
  input.image.env = {"LANG=C.UTF-8", "LOG_LEVEL=warn"};
  input.hostname = "alice";
  input.cgroups_path = "/ctr/agent/01j";
  return input;
}

json Build(const OciSpecInput& input, const OciHost& host = TestHost()) {
  auto text = BuildOciSpec(input, host);
  REQUIRE_MESSAGE(text.ok(), text.status().ToString());
  return json::parse(*text);
}

json ArgsOf(const OciSpecInput& input) { return Build(input)["process"]["args"]; }

std::string ReadGolden(const std::string& name) {
  std::ifstream file(std::string(CTR_SOURCE_DIR) + "/tests/unit/runtime/" + name);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace

TEST_CASE("a container with a way out joins its namespace and sees the host's nameservers") {
  OciSpecInput input = TestInput();
  CHECK(Build(input)["linux"]["namespaces"][4] == json{{"type", "network"}});
  input.network_namespace = "/proc/7/fd/9";
  input.resolv_conf = "/run/ctr/network/resolv.conf";
  const json spec = Build(input);
  CHECK(spec["linux"]["namespaces"][4] == json{{"type", "network"}, {"path", "/proc/7/fd/9"}});
  const json mount = spec["mounts"].back();
  CHECK(mount["destination"] == "/etc/resolv.conf");
  CHECK(mount["source"] == "/run/ctr/network/resolv.conf");
  const Strings options = mount["options"];
  CHECK(std::find(options.begin(), options.end(), "ro") != options.end());
}

TEST_CASE("a container's whole spec is what oci_spec.golden.json says") {
  OciSpecInput input = TestInput();
  input.user = {1000, 1000, {1000, 27}};
  input.env = {{"CTR_CLASS", "web"}, {"CTR_ID", "alice"}, {"LOG_LEVEL", "info"}};
  input.image.working_dir = "/srv";
  input.resources.cpus = 0.5;
  input.resources.memory_bytes = 256 << 20;
  input.read_only = true;
  input.annotations = {{"org.example.note", "\"seccomp\":null"}};
  std::string built = Build(input).dump(2) + "\n";
  CHECK(built == ReadGolden("oci_spec.golden.json"));
}

TEST_CASE(
    "an entrypoint replaces the image's entrypoint and command, a command the command alone") {
  OciSpecInput input = TestInput();
  CHECK(ArgsOf(input) == json({"/bin/server", "--port", "8080"}));
  input.command = Strings{"--port", "9"};
  CHECK(ArgsOf(input) == json({"/bin/server", "--port", "9"}));
  input.command = Strings{};
  CHECK(ArgsOf(input) == json({"/bin/server"}));
  input.command.reset();
  input.entrypoint = Strings{"/bin/sh", "-c", "true"};
  CHECK(ArgsOf(input) == json({"/bin/sh", "-c", "true"}));
  input.command = Strings{"x"};
  CHECK(ArgsOf(input) == json({"/bin/sh", "-c", "true", "x"}));
}

TEST_CASE("nothing to run is a refusal that says what to set") {
  OciSpecInput input = TestInput();
  input.image.entrypoint.clear();
  CHECK(ArgsOf(input) == json({"--port", "8080"}));
  for (auto entrypoint : {Strings{}, Strings{""}}) {
    input.entrypoint = entrypoint;
    auto refused = BuildOciSpec(input, TestHost());
    CHECK(refused.status().code() == absl::StatusCode::kFailedPrecondition);
    CHECK(ErrorCodeOf(refused.status()) == code::kStartFailed);
    CHECK(refused.status().message().find("`entrypoint`") != std::string::npos);
  }
}

TEST_CASE("what can't be passed to a process is refused") {
  OciSpecInput input = TestInput();
  input.env = {{"A", std::string("x\0y", 3)}};
  auto refused = BuildOciSpec(input, TestHost());
  CHECK(refused.status().code() == absl::StatusCode::kFailedPrecondition);
  CHECK(refused.status().message().find("variable A ") != std::string::npos);
  input = TestInput();
  input.command = Strings{std::string("x\0y", 3)};
  CHECK(!BuildOciSpec(input, TestHost()).ok());
}

TEST_CASE("variables: the default PATH and HOSTNAME, then the image's, then the class's") {
  OciSpecInput input = TestInput();
  CHECK(Build(input)["process"]["env"] ==
        json({"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME=alice",
              "LANG=C.UTF-8", "LOG_LEVEL=warn"}));
  input.image.env = {"PATH=/opt/bin", "EMPTY=", "DROPPED", "LOG=1"};
  input.env = {{"LOG", "2"}, {"LO", "3"}, {"HOSTNAME", "h"}};
  CHECK(Build(input)["process"]["env"] ==
        json({"PATH=/opt/bin", "HOSTNAME=h", "EMPTY=", "LOG=2", "LO=3"}));
}

TEST_CASE("the working directory is absolute") {
  OciSpecInput input = TestInput();
  CHECK(Build(input)["process"]["cwd"] == "/");
  input.image.working_dir = "srv/app";
  CHECK(Build(input)["process"]["cwd"] == "/srv/app");
}

TEST_CASE("root has Docker's capabilities, another user none in effect, nobody inheritable ones") {
  OciSpecInput input = TestInput();
  json root = Build(input)["process"]["capabilities"];
  CHECK(root["effective"].size() == 14);
  CHECK(root["effective"] == root["bounding"]);
  CHECK(root["permitted"] == root["bounding"]);
  CHECK(!root.contains("inheritable"));
  CHECK(!root.contains("ambient"));
  input.user.uid = 1000;
  json other = Build(input)["process"]["capabilities"];
  CHECK(other["bounding"] == root["bounding"]);
  CHECK(other.size() == 1);
}

TEST_CASE("limits: cpus become a quota, memory allows no swap, open files are capped") {
  OciSpecInput input = TestInput();
  json none = Build(input)["linux"]["resources"];
  CHECK(!none.contains("cpu"));
  CHECK(!none.contains("memory"));
  CHECK(none["pids"]["limit"] == 512);

  input.resources = {.cpus = 1.5, .memory_bytes = 64 << 20, .pids = 9};
  json limits = Build(input)["linux"]["resources"];
  CHECK(limits["cpu"] == json({{"period", 100000}, {"quota", 150000}}));
  CHECK(limits["memory"] == json({{"limit", 64 << 20}, {"swap", 64 << 20}}));
  CHECK(limits["pids"]["limit"] == 9);

  input.resources.cpus = 0.001;
  OciHost host = TestHost();
  host.swap_limit = false;
  host.nofile_hard = 512;
  json spec = Build(input, host);
  CHECK(spec["linux"]["resources"]["cpu"]["quota"] == 1000);
  CHECK(spec["linux"]["resources"]["memory"] == json({{"limit", 64 << 20}}));
  CHECK(spec["process"]["rlimits"] ==
        json::array({{{"type", "RLIMIT_NOFILE"}, {"hard", 512}, {"soft", 512}}}));
}

TEST_CASE("text that is not UTF-8 does not end the agent") {
  OciSpecInput input = TestInput();
  input.env = {{"A", "\xff"}};
  CHECK(BuildOciSpec(input, TestHost()).ok());
}

TEST_CASE("this machine gives a seccomp profile and its limit of open files") {
  OciHost host = DetectOciHost();
  CHECK(json::parse(host.seccomp)["syscalls"].size() > 10);
  CHECK(host.nofile_hard > 0);
}

}  // namespace ctr
