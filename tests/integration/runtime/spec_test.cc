// What the OCI spec gives to the processes of a real container, and what it keeps from them.

#include <fcntl.h>

#include <filesystem>

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

  // Imports an image of busybox and `more` whose process is `process`.
  void Import(const std::string& name, const json& process, std::vector<TarEntry> more = {}) {
    more.insert(more.end(),
                {{"bin/busybox", ReadWholeFile("/bin/busybox"), "", 0755},
                 {"etc/passwd", "root:x:0:0::/:/bin/sh\napp:x:1000:1001::/home:/bin/sh\n"},
                 {"etc/group", "web:x:1001:\nextra:x:1002:app\n"}});
    std::string layer = MakeTar(more);
    json config = json::parse(MakeConfig({layer}));
    config["config"] = process;
    std::string path = folder_ + "/image.tar";
    WriteWholeFile(path, MakeDockerArchive({layer}, config.dump(), name));
    auto imported = Run(
        runtime_->ImportImages(UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC)), "", nullptr));
    REQUIRE_MESSAGE(imported.ok(), imported.status().ToString());
  }

  // The refusal of a start from an image, which leaves nothing.
  Status RefusalOf(const std::string& image) {
    ContainerSpec spec = Spec({"/bin/busybox"});
    spec.image = "docker.io/library/" + image;
    const std::string id = spec.id;
    const Status refused = Run(runtime_->Create(std::move(spec))).status();
    CHECK(refused.code() == absl::StatusCode::kFailedPrecondition);
    CHECK(PartsOf(id).empty());
    return refused;
  }

  // The next container on the same disk.
  ContainerSpec Again(ContainerSpec spec, const std::string& script) {
    const ContainerSpec fresh = Shell(script);
    spec.id = fresh.id;
    spec.log = fresh.log;
    spec.entrypoint = fresh.entrypoint;
    return spec;
  }
};

}  // namespace

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

TEST_CASE_FIXTURE(SpecFixture, "volumes: a folder of the host, read-only or not, and memory") {
  std::filesystem::create_directories(folder_ + "/shared/sub");
  ContainerSpec spec = Shell(
      "echo in > /shared/file; echo x > /seen/file; cat /seen/file; echo y > /mem/y && cat /mem/y; "
      "head -c 2000000 /dev/zero > /mem/big; df -k /mem | tail -n 1; mount | grep ' /mem '");
  spec.volumes = {{"/shared", folder_ + "/shared", false, 0},
                  {"/seen", folder_ + "/shared", true, 0},
                  {"/mem", "", false, 1 << 20}};
  std::string output = OutputOf(spec);
  CAPTURE(output);
  CHECK(ReadWholeFile(folder_ + "/shared/file") == "in\n");
  CHECK(absl::StrContains(output, "Read-only file system"));
  CHECK(absl::StrContains(output, "\nin\ny\n"));
  CHECK(absl::StrContains(output, " 100% /mem\n"));
  CHECK(absl::StrContains(output, "nosuid,nodev,noexec"));

  spec = Spec({"/bin/true"});
  spec.volumes = {{"/data", folder_ + "/nowhere", false, 0}};
  std::string id = spec.id;
  auto refused = Run(runtime_->Create(std::move(spec)));
  CHECK(refused.status().code() == absl::StatusCode::kFailedPrecondition);
  CHECK(absl::StrContains(refused.status().message(), "/nowhere"));
  CHECK(PartsOf(id).empty());
}

TEST_CASE_FIXTURE(SpecFixture,
                  "an image's VOLUMEs can be written, have its files, and are its disk's") {
  json process = {
      {"Volumes",
       {{"/etc", json::object()}, {"/data/new/", json::object()}, {"/link", json::object()}}},
      {"Entrypoint", json::array({"/bin/busybox", "sh", "-c"})},
      {"Cmd",
       json::array({"exec 2>&1; cd /etc; echo x >> passwd; busybox wc -l < passwd; echo y >> "
                    "/data/new/y; busybox cat /data/new/y; busybox stat -c %a /data/new; "
                    "echo z > /z; echo w > /link/w; busybox ls /usr/w; exit 0"})}};
  Import("volumes:1", process, {{"link", "", "/usr", 0777}, {"usr/here", "x"}});
  for (bool read_only : {false, true}) {
    CAPTURE(read_only);
    ContainerSpec spec = Spec({});
    spec.image = "docker.io/library/volumes:1";
    spec.entrypoint.reset();
    spec.read_only = read_only;
    std::string output = OutputOf(spec);
    CAPTURE(output);
    CHECK(absl::StartsWith(output, "3\ny\n755\n"));
    CHECK(absl::StrContains(output, "/z: Read-only file system") == read_only);
    CHECK(absl::EndsWith(output, "/usr/w\n"));
  }
  ContainerSpec kept = Spec({});
  kept.image = "docker.io/library/volumes:1";
  kept.entrypoint.reset();
  kept.read_only = true;
  kept.keep_disk = true;
  CHECK(absl::StartsWith(OutputOf(kept), "3\n"));
  ContainerSpec again = kept;
  const ContainerSpec fresh = Spec({});
  again.id = fresh.id;
  again.log = fresh.log;
  CHECK(absl::StartsWith(OutputOf(again), "4\ny\ny\n"));
  CHECK(Run(runtime_->RemoveDisk(kept.name)).ok());
}

TEST_CASE_FIXTURE(SpecFixture, "no VOLUME of an image leads out of its own file system") {
  Import(
      "escape:1",
      {{"Volumes", {{"/up/../../out", json::object()}, {"/p", json::object()}}},
       {"Entrypoint", json::array({"/bin/busybox", "sh", "-c"})},
       {"Cmd", json::array({"busybox ls -d /out; busybox mount | busybox grep -c /proc; exit 0"})}},
      {{"p", "", "/proc/1", 0777}, {"up", "", "/", 0777}});
  for (bool read_only : {false, true}) {
    CAPTURE(read_only);
    ContainerSpec spec = Spec({});
    spec.image = "docker.io/library/escape:1";
    spec.entrypoint.reset();
    spec.read_only = read_only;
    std::string output = OutputOf(spec);
    CAPTURE(output);
    CHECK(absl::StartsWith(output, "/out\n"));
    CHECK(!std::filesystem::exists("/out"));
  }
}

TEST_CASE_FIXTURE(SpecFixture, "a VOLUME whose links lead on and on is refused, in bounded steps") {
  // Each link leads through a thousand folders that are not there, to the next: all of them made
  // by recursion were more than a stack holds.
  std::vector<TarEntry> links;
  const auto name = [](int i) { return "l" + std::to_string(i); };
  for (int i = 0; i < 20; ++i) {
    std::string target = "/" + name(i + 1);
    for (int k = 0; k < 1000; ++k) target += "/d";
    links.push_back({name(i), "", target, 0777});
  }
  Import("far:1", {{"Volumes", {{"/l0", json::object()}}}}, links);
  CHECK(absl::StrContains(RefusalOf("far:1").message(), "VOLUME /l0"));

  Import("loop:1", {{"Volumes", {{"/a/data", json::object()}}}},
         {{"a", "", "/b", 0777}, {"b", "", "a", 0777}});
  CHECK(absl::StrContains(RefusalOf("loop:1").message(), "VOLUME /a/data"));

  std::string deep;
  for (int i = 0; i < 300; ++i) deep += "/d";
  Import("deep:1", {{"Volumes", {{deep, json::object()}}}});
  CHECK(absl::StrContains(RefusalOf("deep:1").message(), "too many folders"));
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

TEST_CASE_FIXTURE(SpecFixture, "below a read-only root no instance leads a VOLUME elsewhere") {
  Import("inner:1", {{"Volumes", {{"/data", json::object()}, {"/data/sub", json::object()}}}},
         {{"bin/sh", "", "busybox", 0777}});
  ContainerSpec spec = Shell("cd /data; busybox mv sub old; busybox ln -s /etc sub; echo done");
  spec.image = "docker.io/library/inner:1";
  spec.keep_disk = true;
  const InstanceName name = spec.name;
  CHECK(OutputOf(spec) == "done\n");
  // Where all can be written it is its own affair.
  CHECK(OutputOf(Again(spec, "echo x > /etc/x && echo written")) == "written\n");
  ContainerSpec read_only = Again(spec, "echo x > /etc/y && echo written");
  read_only.read_only = true;
  const Status refused = Run(runtime_->Create(read_only)).status();
  CHECK(refused.code() == absl::StatusCode::kFailedPrecondition);
  CHECK(absl::StrContains(refused.message(), "/data/sub"));
  CHECK(Run(runtime_->RemoveDisk(name)).ok());
}

}  // namespace ctr
