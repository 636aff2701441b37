#include "agent/runtime/oci_spec.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "agent/base/read_file.h"
#include "tests/fakes/temp_folder.h"

using nlohmann::json;

namespace ctr {
namespace {

using Strings = std::vector<std::string>;

// A host with cgroup v2, where swap can be limited.
OciHost TestHost() {
  OciHost host;
  host.seccomp = R"({"defaultAction":"SCMP_ACT_ERRNO"})";
  host.kernel = "6.1.0";
  host.capabilities = KnownCapabilities();
  host.recursive_read_only = true;
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

// A host with cgroup v1 as Debian boots it: without swap accounting.
OciHost CgroupV1Host() {
  OciHost host = TestHost();
  host.cgroup_v1 = true;
  host.swap_limit = false;
  return host;
}

Status RefusalOf(const OciSpecInput& input, const OciHost& host = TestHost()) {
  return BuildOciSpec(input, host).status();
}

// The mount at a place; null if there is none.
json MountAt(const json& spec, const std::string& destination) {
  json found;
  for (const json& mount : spec["mounts"]) {
    if (mount["destination"] != destination) continue;
    CHECK(found.is_null());
    found = mount;
  }
  return found;
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

TEST_CASE("a container's whole spec is what the golden files say, with cgroup v1 and v2") {
  OciSpecInput input = TestInput();
  input.user = {1000, 1000, {1000, 27}};
  input.env = {{"CTR_CLASS", "web"}, {"CTR_ID", "alice"}, {"LOG_LEVEL", "info"}};
  input.image.working_dir = "/srv";
  input.resources.cpus = 0.5;
  input.resources.memory_bytes = 256 << 20;
  input.read_only = true;
  input.volumes = {{"/run", "", false, 1 << 20}, {"/data", "/srv/data", true, 0}};
  input.etc_folder = "/var/lib/ctr/snapshots/1/etc";
  input.annotations = {{"org.example.note", "\"seccomp\":null"}};
  CHECK(Build(input).dump(2) + "\n" == ReadGolden("oci_spec.golden.json"));
  // runc turns the same limits into either's files. What differs is swap, and what runc leaves
  // open.
  json v1 = Build(input, CgroupV1Host());
  CHECK(v1["linux"].dump(2) + "\n" == ReadGolden("oci_spec.cgroup1.golden.json"));
  v1["linux"]["resources"]["memory"]["swap"] = 256 << 20;
  v1["linux"]["readonlyPaths"].erase(5);
  CHECK(v1 == Build(input));
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
  for (auto entrypoint : {Strings{}, Strings{""}}) {
    input.image.entrypoint = entrypoint;
    CHECK(ArgsOf(input) == json({"--port", "8080"}));
  }
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

TEST_CASE("many variables are no search through all of them for each") {
  OciSpecInput input = TestInput();
  // About as many as an image may have.
  for (int i = 0; i < 100'000; ++i) input.image.env.push_back(std::to_string(i) + "=");
  input.env = {{"99999", "x"}};
  const json env = Build(input)["process"]["env"];
  CHECK(env.size() == 100'004);
  CHECK(env.back() == "99999=x");
}

TEST_CASE("the working directory is absolute") {
  OciSpecInput input = TestInput();
  CHECK(Build(input)["process"]["cwd"] == "/");
  input.image.working_dir = "srv/app";
  CHECK(Build(input)["process"]["cwd"] == "/srv/app");
  input.workdir = "/class";
  CHECK(Build(input)["process"]["cwd"] == "/class");
}

TEST_CASE("root has the default capabilities, another user none in effect, nobody inherits any") {
  OciSpecInput input = TestInput();
  json root = Build(input)["process"]["capabilities"];
  CHECK(root["bounding"] == json(DefaultCapabilities()));
  CHECK(root["effective"] == root["bounding"]);
  CHECK(root["permitted"] == root["bounding"]);
  CHECK(!root.contains("inheritable"));
  CHECK(!root.contains("ambient"));
  input.user.uid = 1000;
  json other = Build(input)["process"]["capabilities"];
  CHECK(other["bounding"] == root["bounding"]);
  CHECK(other.size() == 1);
}

TEST_CASE("a capability that was added brings its system calls; the default profile is text") {
  OciSpecInput input = TestInput();
  CHECK(Build(input)["linux"]["seccomp"] == json({{"defaultAction", "SCMP_ACT_ERRNO"}}));
  input.security.cap_add = {"CAP_SYS_ADMIN"};
  json spec = Build(input);
  CHECK(spec["process"]["capabilities"]["effective"].size() == DefaultCapabilities().size() + 1);
  const auto allows_mount = [](const json& rule) {
    return rule["action"] == "SCMP_ACT_ALLOW" &&
           rule["names"].dump().find("\"mount\"") != std::string::npos;
  };
  const json& rules = spec["linux"]["seccomp"]["syscalls"];
  CHECK(std::any_of(rules.begin(), rules.end(), allows_mount));
  input.security = Security();
  input.security.cap_drop = {"ALL"};
  CHECK(Build(input)["process"]["capabilities"]["bounding"].empty());
}

TEST_CASE("a capability that the agent lacks is refused where it was asked for by name") {
  OciSpecInput input = TestInput();
  OciHost host = TestHost();
  host.capabilities = {"CAP_CHOWN", "CAP_KILL"};
  CHECK(Build(input, host)["process"]["capabilities"]["bounding"] ==
        json({"CAP_CHOWN", "CAP_KILL"}));
  input.security.cap_add = {"ALL"};
  CHECK(Build(input, host)["process"]["capabilities"]["bounding"] ==
        json({"CAP_CHOWN", "CAP_KILL"}));
  input.security.cap_add = {"CAP_SYS_RESOURCE"};
  CHECK(RefusalOf(input, host).code() == absl::StatusCode::kFailedPrecondition);
  CHECK(RefusalOf(input, host).message().find("CAP_SYS_RESOURCE") != std::string::npos);
}

TEST_CASE("what loosens an instance is only what its class says") {
  OciSpecInput input = TestInput();
  json tight = Build(input);
  CHECK(tight["process"]["noNewPrivileges"] == true);
  CHECK(tight["linux"]["maskedPaths"].size() == 22);
  input.security.seccomp = false;
  input.security.masked_paths = false;
  input.security.no_new_privileges = false;
  json loose = Build(input);
  CHECK(loose["process"]["noNewPrivileges"] == false);
  CHECK(!loose["linux"].contains("seccomp"));
  CHECK(!loose["linux"].contains("maskedPaths"));
  CHECK(loose["linux"]["readonlyPaths"].empty());
  CHECK(Build(input, CgroupV1Host())["linux"]["readonlyPaths"] == json::array({"/sys/fs/cgroup"}));
}

TEST_CASE("an AppArmor profile holds where the kernel has AppArmor") {
  OciSpecInput input = TestInput();
  CHECK(!Build(input)["process"].contains("apparmorProfile"));
  OciHost host = TestHost();
  host.has_apparmor = true;
  host.apparmor = "ctr-default";
  CHECK(Build(input, host)["process"]["apparmorProfile"] == "ctr-default");
  for (const char* profile : {"mine", "unconfined"}) {
    input.security.apparmor = profile;
    CHECK(Build(input, host)["process"]["apparmorProfile"] == profile);
  }
  CHECK(!Build(input)["process"].contains("apparmorProfile"));
  input.security.apparmor = "mine";
  CHECK(RefusalOf(input).code() == absl::StatusCode::kFailedPrecondition);
}

TEST_CASE("volumes are mounted, an outer one first, in place of what would be there otherwise") {
  OciSpecInput input = TestInput();
  input.etc_folder = "/etc-of-alice";
  input.volumes = {{"/srv/a/b", "/host/b", false, 0},
                   {"/srv/a", "/host/a", true, 0},
                   {"/dev/shm", "", false, 1 << 30},
                   {"/etc/hosts", "/host/hosts", false, 0}};
  json spec = Build(input);
  CHECK(MountAt(spec, "/dev/shm")["options"] ==
        json({"nosuid", "noexec", "nodev", "mode=1777", "size=1073741824"}));
  CHECK(MountAt(spec, "/etc/hosts")["source"] == "/host/hosts");
  CHECK(MountAt(spec, "/etc/resolv.conf")["source"] == "/etc-of-alice/resolv.conf");
  CHECK(MountAt(spec, "/srv/a")["options"] == json({"rbind", "rprivate", "ro", "rro"}));
  CHECK(MountAt(spec, "/srv/a/b")["options"] == json({"rbind", "rprivate", "rw"}));
  const std::string text = spec["mounts"].dump();
  CHECK(text.find("\"/srv/a\"") < text.find("\"/srv/a/b\""));
  OciHost old = TestHost();
  old.recursive_read_only = false;
  CHECK(MountAt(Build(input, old), "/srv/a")["options"] == json({"rbind", "rprivate", "ro"}));
}

TEST_CASE(
    "an image's volumes are mounts only where the root is read-only, and nothing else is there") {
  OciSpecInput input = TestInput();
  input.image_volumes = {"/data", "/srv/a/b", "/proc/x", "/dev", "/"};
  input.volumes = {{"/srv", "", false, 1 << 20}};
  CHECK(MountAt(Build(input), "/data").is_null());
  input.read_only = true;
  json spec = Build(input);
  CHECK(MountAt(spec, "/data")["source"] == "rootfs/data");
  CHECK(MountAt(spec, "/data")["options"] == json({"bind", "rprivate", "rw"}));
  CHECK(MountAt(spec, "/dev")["type"] == "tmpfs");
  for (const char* path : {"/srv/a/b", "/proc/x", "/"}) CHECK(MountAt(spec, path).is_null());
}

TEST_CASE("the files of /etc can be written unless the root is read-only") {
  OciSpecInput input = TestInput();
  CHECK(MountAt(Build(input), "/etc/hosts").is_null());
  input.etc_folder = "/etc-of-alice";
  CHECK(MountAt(Build(input), "/etc/hosts")["options"].back() == "rw");
  input.read_only = true;
  CHECK(MountAt(Build(input), "/etc/hosts")["options"].back() == "ro");
  input.etc_paths = {{"hosts", "/usr/etc/hosts"}};
  CHECK(MountAt(Build(input), "/usr/etc/hosts")["source"] == "/etc-of-alice/hosts");
  for (const char* path : {"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"}) {
    CHECK(MountAt(Build(input), path).is_null());
  }
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

// A machine's /sys/fs/cgroup and /proc/swaps.
class SwapFixture : public TempFolder {
 public:
  SwapFixture() {
    Write("proc/swaps", "Filename Type Size Used Priority\n/dev/sda2 partition 999 0 -2\n");
  }

  // Whether it limits swap without a warning, or warns.
  bool Limits() {
    const OciHost host = DetectOciHost(path());
    CHECK(host.warnings.size() == (host.swap_limit ? 0 : 1));
    return host.swap_limit;
  }
};

TEST_CASE_FIXTURE(SwapFixture, "with cgroup v2, swap is limited if any cgroup can, or a new one") {
  Write("sys/fs/cgroup/cgroup.controllers", "memory");
  Write("sys/fs/cgroup/cgroup.subtree_control", "");
  CHECK(!Limits());
  // Without systemd, nobody had asked for it, and no cgroup could show it.
  CHECK(ReadFileText(path() / "sys/fs/cgroup/cgroup.subtree_control") == "+memory");
  CHECK(!std::filesystem::exists(path() / "sys/fs/cgroup/ctr"));
  Write("sys/fs/cgroup/system.slice/memory.swap.max", "max");
  CHECK(Limits());
  std::filesystem::remove_all(path() / "sys/fs/cgroup/system.slice");
  Write("proc/self/cgroup", "0::/deep/own\n");
  Write("sys/fs/cgroup/deep/own/memory.swap.max", "max");
  CHECK(Limits());
}

TEST_CASE_FIXTURE(SwapFixture,
                  "where swap can't be limited, and there is some, a warning says so") {
  Write("sys/fs/cgroup/memory/memory.limit_in_bytes", "");
  CHECK(!Limits());
  CHECK(DetectOciHost(path()).warnings.front().find("swapaccount=1") != std::string::npos);
  Write("proc/swaps", "Filename Type Size Used Priority\n");
  CHECK(DetectOciHost(path()).warnings.empty());
  Write("sys/fs/cgroup/memory/memory.memsw.limit_in_bytes", "");
  CHECK(Limits());
}

}  // namespace ctr
