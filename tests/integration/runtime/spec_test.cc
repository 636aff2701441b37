// What the OCI spec gives to the processes of a real container, and what it keeps from them.

#include <filesystem>

#include <doctest/doctest.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/integration/runtime/spec_fixture.h"

namespace ctr {

using nlohmann::json;

TEST_CASE_FIXTURE(SpecFixture, "an instance can't make namespaces, mount, or reach the host") {
  std::string output = OutputOf(
      Shell("for c in 'unshare -U true' 'unshare -m true' 'mount -t tmpfs x /tmp' 'umount /proc' "
            "'mknod /tmp/kmsg c 1 11' 'cat /tmp/kmsg' 'touch /sys/x' 'touch /proc/sys/kernel/x' "
            "'mkdir /sys/fs/cgroup/x' 'mkdir /sys/fs/cgroup/memory/x' 'dmesg'; do /bin/busybox $c "
            ">/dev/null && echo \"did "
            "$c\"; done; "
            "echo -n kcore; cat /proc/kcore | wc -c; ls /sys/firmware | wc -l"));
  CAPTURE(output);
  CHECK(!absl::StrContains(output, "did mknod"));
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
  spec = Spec({});
  spec.image = "docker.io/library/mine:1";
  spec.entrypoint.reset();
  spec.user = "4242:extra";
  spec.workdir = "/class";
  CHECK(absl::StrContains(OutputOf(spec), "uid=4242 gid=1002(extra) groups=1002(extra)\n/class\n"));
  CHECK(absl::StrContains(output, "CapBnd:\t00000000800405fb"));

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

TEST_CASE_FIXTURE(SpecFixture, "an instance has its own hosts, hostname and resolv.conf") {
  ContainerSpec spec = Shell(
      "cat /etc/hosts /etc/hostname; wc -c < /etc/resolv.conf; hostname; ls -l /etc/hosts; "
      "echo 192.0.2.1 more >> /etc/hosts && echo written");
  std::string output = OutputOf(spec);
  CAPTURE(output);
  CHECK(absl::StartsWith(output, "127.0.0.1\tlocalhost\n"));
  CHECK(absl::StrContains(output, "\n169.254.77.2\talice\nalice\n0\nalice\n-rw-r--r--"));
  CHECK(absl::EndsWith(output, "\nwritten\n"));
  spec = Shell("wc -c < /etc/resolv.conf; echo x >> /etc/hosts");
  spec.read_only = true;
  output = OutputOf(spec);
  CAPTURE(output);
  CHECK(absl::StartsWith(output, "0\n"));
  CHECK(absl::StrContains(output, "Read-only file system"));
}

TEST_CASE_FIXTURE(SpecFixture, "a FIFO for /etc/passwd holds up no start: the next is refused") {
  ContainerSpec spec = Shell("rm /etc/passwd; /bin/busybox mkfifo /etc/passwd");
  spec.keep_disk = true;
  const ContainerSpec again = Again(spec, "true");
  const InstanceName name = spec.name;
  OutputOf(std::move(spec));
  const std::string id = again.id;
  const Status refused = Run(runtime_->Create(again)).status();
  CHECK(refused.code() == absl::StatusCode::kFailedPrecondition);
  CHECK(absl::StrContains(refused.message(), "/etc/passwd"));
  CHECK(PartsOf(id).empty());
  CHECK(Run(runtime_->RemoveDisk(name)).ok());
}

}  // namespace ctr
