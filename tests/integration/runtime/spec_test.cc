// What the OCI spec gives to the processes of a real container, and what it keeps from them.

#include <fcntl.h>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/integration/runtime/image_archives.h"
#include "tests/integration/runtime/runtime_fixture.h"

namespace ctr {
namespace {

using nlohmann::json;

class SpecFixture : public RuntimeFixture {
 public:
  // What a shell in a container says.
  std::string OutputOf(ContainerSpec spec) {
    Container container = Create(std::move(spec));
    REQUIRE(Run(runtime_->Start(container.id)).ok());
    WaitExit(container.id);
    REQUIRE(Run(runtime_->Remove(container.id)).ok());
    return Output(container.id);
  }

  ContainerSpec Shell(const std::string& script) {
    return Spec({"/bin/sh", "-c", "exec 2>&1; " + script + "; exit 0"});
  }

  // Imports an image of busybox whose process is `process`.
  void Import(const std::string& name, const json& process) {
    std::string layer =
        MakeTar({{"bin/busybox", ReadWholeFile("/bin/busybox"), "", 0755},
                 {"etc/passwd", "root:x:0:0::/:/bin/sh\napp:x:1000:1001::/home:/bin/sh\n"},
                 {"etc/group", "web:x:1001:\nextra:x:1002:app\n"}});
    json config = json::parse(MakeConfig({layer}));
    config["config"] = process;
    std::string path = folder_ + "/image.tar";
    WriteWholeFile(path, MakeDockerArchive({layer}, config.dump(), name));
    auto imported =
        Run(runtime_->ImportImages(UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC)), ""));
    REQUIRE_MESSAGE(imported.ok(), imported.status().ToString());
  }
};

}  // namespace

TEST_CASE_FIXTURE(SpecFixture, "an instance can't make namespaces, mount, or reach the host") {
  std::string output = OutputOf(
      Shell("for c in 'unshare -U true' 'unshare -m true' 'mount -t tmpfs x /tmp' 'umount /proc' "
            "'mknod /tmp/kmsg c 1 11' 'cat /tmp/kmsg' 'touch /sys/x' 'touch /proc/sys/kernel/x' "
            "'mkdir /sys/fs/cgroup/memory/x' 'dmesg'; do /bin/busybox $c >/dev/null && echo \"did "
            "$c\"; done; "
            "echo -n kcore; cat /proc/kcore | wc -c; ls /sys/firmware | wc -l"));
  CAPTURE(output);
  // Making a node is allowed as in Docker; using it is not.
  CHECK(absl::StrContains(output, "did mknod /tmp/kmsg c 1 11\n"));
  CHECK(!absl::StrContains(output, "did unshare"));
  CHECK(!absl::StrContains(output, "did mount"));
  CHECK(!absl::StrContains(output, "did umount"));
  CHECK(!absl::StrContains(output, "did cat"));
  CHECK(!absl::StrContains(output, "did touch"));
  CHECK(!absl::StrContains(output, "did mkdir"));
  CHECK(!absl::StrContains(output, "did dmesg"));
}

TEST_CASE_FIXTURE(SpecFixture, "an instance has devices, shared memory and its own cgroup to see") {
  std::string output = OutputOf(
      Shell("echo x > /dev/null && head -c 3 /dev/urandom | wc -c; touch /dev/shm/x && echo shm; "
            "/bin/busybox ls /dev/mqueue && echo mqueue; /bin/busybox ls -d /dev/pts/ptmx; "
            "cat /proc/self/cgroup; cat /proc/self/oom_score_adj"));
  CAPTURE(output);
  CHECK(absl::StrContains(output, "shm\nmqueue\n/dev/pts/ptmx\n"));
  // cgroup v1 and v2.
  bool own_cgroup =
      absl::StrContains(output, ":memory:/\n") || absl::StrContains(output, "\n0::/\n");
  CHECK(own_cgroup);
  CHECK(!absl::StrContains(output, "/ctr/"));
  CHECK(absl::EndsWith(output, "\n0\n"));
}

TEST_CASE_FIXTURE(SpecFixture, "limits of memory and CPU are the cgroup's") {
  ContainerSpec spec = Shell(
      "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes memory/memory.memsw.limit_in_bytes "
      "cpu/cpu.cfs_quota_us memory.max memory.swap.max cpu.max");
  spec.resources.memory_bytes = 64 << 20;
  spec.resources.cpus = 0.25;
  std::string output = OutputOf(spec);
  CAPTURE(output);
  bool v1 = absl::StrContains(output, "67108864\n67108864\n25000\n");
  bool v2 = absl::StrContains(output, "67108864\n0\n25000 100000\n");
  CHECK((v1 || v2));
}

TEST_CASE_FIXTURE(SpecFixture, "a read-only root can't be written, /dev/shm can") {
  ContainerSpec spec = Shell("echo x > /tmp/x; echo y > /dev/shm/y && cat /dev/shm/y");
  spec.read_only = true;
  std::string output = OutputOf(spec);
  CAPTURE(output);
  CHECK(absl::StrContains(output, "Read-only file system"));
  CHECK(absl::EndsWith(output, "\ny\n"));
}

TEST_CASE_FIXTURE(SpecFixture, "the image's user, groups, folder and variables are the process's") {
  Import("mine:1", {{"User", "app"},
                    {"WorkingDir", "/work/dir"},
                    {"Env", json::array({"PATH=/bin:/opt", "A=image", "B=image"})},
                    {"Entrypoint", json::array({"/bin/busybox", "sh", "-c"})},
                    {"Cmd", json::array({"busybox id; pwd; echo $PATH $A $B $HOSTNAME $HOME; "
                                         "busybox grep Cap /proc/self/status"})}});
  ContainerSpec spec = Spec({});
  spec.image = "docker.io/library/mine:1";
  spec.entrypoint.reset();
  spec.env["B"] = "class";
  std::string output = OutputOf(spec);
  CAPTURE(output);
  CHECK(absl::StrContains(output, "uid=1000(app) gid=1001(web) groups=1001(web),1002(extra)\n"));
  CHECK(absl::StrContains(output, "/work/dir\n/bin:/opt image class alice /home\n"));
  CHECK(absl::StrContains(output, "CapEff:\t0000000000000000"));
  CHECK(absl::StrContains(output, "CapBnd:\t00000000a80425fb"));

  Import("mine:2", {{"User", "ghost"}, {"Cmd", json::array({"/bin/busybox"})}});
  spec = Spec({"/bin/busybox"});
  spec.image = "docker.io/library/mine:2";
  std::string id = spec.id;
  auto refused = Run(runtime_->Create(std::move(spec)));
  CHECK(refused.status().code() == absl::StatusCode::kFailedPrecondition);
  CHECK(absl::StrContains(refused.status().message(), "\"ghost\""));
  CHECK(PartsOf(id).empty());

  Import("mine:3", json::object());
  spec = Spec({});
  spec.entrypoint.reset();
  spec.image = "docker.io/library/mine:3";
  refused = Run(runtime_->Create(std::move(spec)));
  CHECK(refused.status().code() == absl::StatusCode::kFailedPrecondition);
  CHECK(absl::StrContains(refused.status().message(), "`entrypoint`"));
}

}  // namespace ctr
