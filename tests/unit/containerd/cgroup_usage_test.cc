#include <map>
#include <string>

#include <doctest/doctest.h>

#include "absl/strings/str_cat.h"
#include "agent/base/read_file.h"
#include "agent/runtime/containerd/cgroup.h"
#include "tests/fakes/temp_folder.h"

namespace ctr {
namespace {

using namespace std::chrono_literals;

constexpr char kPath[] = "/ctr/agent/container";

// Cgroup file systems as files of a folder that goes with the test.
class Hierarchies {
 public:
  void MountV1(const std::string& controllers) { Mount(controllers, "cgroup", controllers); }
  void MountV2(const std::string& name) { Mount(name, "cgroup2", "rw"); }
  // A file of the container's cgroup.
  void Write(const std::string& mount, const std::string& file, const std::string& text) {
    root_.Write(mount + kPath + "/" + file, text);
  }
  std::string Read(const std::string& mount, const std::string& file) const {
    return ReadFileText(root_.path() / (mount + kPath) / file);
  }
  Status SetIdle(bool idle) const {
    return Cgroups::FromMountinfo(mountinfo_).SetIdle(kPath, idle);
  }
  Status MoveThread(int thread) const {
    return Cgroups::FromMountinfo(mountinfo_).MoveThread(thread, kPath);
  }
  std::string ThreadCpuCgroup() const {
    return Cgroups::FromMountinfo(mountinfo_).ThreadCpuCgroup();
  }
  StatusOr<ResourceUsage> Usage() const { return Cgroups::FromMountinfo(mountinfo_).Usage(kPath); }

 private:
  void Mount(const std::string& name, const std::string& type, const std::string& options) {
    absl::StrAppend(&mountinfo_, "36 35 0:31 / ", root_.path().string(), "/", name, " rw - ", type,
                    " ", type, " rw,", options, "\n");
  }

  TempFolder root_;
  std::string mountinfo_;
};

void FillV1(Hierarchies& host) {
  host.MountV1("cpu,cpuacct");
  host.MountV1("memory");
  host.MountV1("pids");
  host.Write("cpu,cpuacct", "cpuacct.usage", "1500000000\n");
  host.Write("memory", "memory.usage_in_bytes", "50000000\n");
  host.Write(
      "memory", "memory.stat",
      "cache 30000000\ninactive_file 1\ntotal_cache 30000000\ntotal_inactive_file 20000000\n");
  host.Write("memory", "memory.limit_in_bytes", "268435456\n");
  host.Write("pids", "pids.current", "3\n");
}

void FillV2(Hierarchies& host, const std::string& mount) {
  host.MountV2(mount);
  host.Write(mount, "cpu.stat", "usage_usec 2500000\nuser_usec 2000000\nsystem_usec 500000\n");
  host.Write(mount, "memory.current", "50000000\n");
  host.Write(mount, "memory.stat", "anon 1\ninactive_anon 2\ninactive_file 20000000\n");
  host.Write(mount, "memory.max", "268435456\n");
  host.Write(mount, "pids.current", "4\n");
}

TEST_CASE("usage of version 1's controllers, each in its own hierarchy") {
  Hierarchies host;
  FillV1(host);
  StatusOr<ResourceUsage> usage = host.Usage();
  REQUIRE_MESSAGE(usage.ok(), usage.status().ToString());
  CHECK(usage->cpu_time == 1500ms);
  CHECK(usage->memory_bytes == 30'000'000);
  CHECK(usage->memory_limit_bytes == 268'435'456);
  CHECK(usage->processes == 3);
}

TEST_CASE("usage of version 2's one hierarchy") {
  Hierarchies host;
  FillV2(host, "unified");
  StatusOr<ResourceUsage> usage = host.Usage();
  REQUIRE_MESSAGE(usage.ok(), usage.status().ToString());
  CHECK(usage->cpu_time == 2500ms);
  CHECK(usage->memory_bytes == 30'000'000);
  CHECK(usage->memory_limit_bytes == 268'435'456);
  CHECK(usage->processes == 4);
}

TEST_CASE("where both versions are mounted, the controllers are version 1's") {
  Hierarchies host;
  FillV1(host);
  host.MountV2("unified");
  host.Write("unified", "cgroup.procs", "");
  REQUIRE(host.Usage().ok());
  CHECK(host.Usage()->processes == 3);
}

TEST_CASE("pressure is that of the last ten seconds, wherever version 2 is mounted") {
  Hierarchies host;
  FillV1(host);
  CHECK_FALSE(host.Usage()->memory_pressure_some);
  host.MountV2("unified");
  host.Write("unified", "memory.pressure",
             "some avg10=12.50 avg60=3.00 avg300=1.00 total=174607208\n"
             "full avg10=7.25 avg60=2.00 avg300=0.50 total=157339796\n");
  host.Write("unified", "cpu.pressure", "some avg10=99.00 avg60=3.00 avg300=1.00 total=1\n");
  CHECK(host.Usage()->memory_pressure_some == doctest::Approx(0.125));
  CHECK(host.Usage()->memory_pressure_full == doctest::Approx(0.0725));
  // A kernel before 5.13 has no "full" of CPU, and one with psi=0 no file that can be read.
  CHECK_FALSE(host.Usage()->cpu_pressure_full);
  host.Write("unified", "cpu.pressure",
             "some avg10=99.00 avg60=3.00 avg300=1.00 total=1\n"
             "full avg10=50.00 avg60=2.00 avg300=0.50 total=1\n");
  CHECK(host.Usage()->cpu_pressure_full == doctest::Approx(0.5));
}

TEST_CASE("no memory limit is none in either version's way of writing it") {
  Hierarchies v1;
  FillV1(v1);
  v1.Write("memory", "memory.limit_in_bytes", "9223372036854771712\n");
  CHECK_FALSE(v1.Usage()->memory_limit_bytes);
  v1.Write("memory", "memory.limit_in_bytes", "18446744073709551615\n");
  CHECK_FALSE(v1.Usage()->memory_limit_bytes);
  Hierarchies v2;
  FillV2(v2, "unified");
  v2.Write("unified", "memory.max", "max\n");
  CHECK_FALSE(v2.Usage()->memory_limit_bytes);
}

TEST_CASE(
    "more inactive cache than usage, as files read one after the other may say, is no minus") {
  Hierarchies host;
  FillV2(host, "unified");
  host.Write("unified", "memory.current", "10000000\n");
  CHECK(host.Usage()->memory_bytes == 0);
}

TEST_CASE("a cgroup that is gone is not found, and garbage is an error that names the file") {
  Hierarchies host;
  host.MountV2("unified");
  CHECK(absl::IsNotFound(host.Usage().status()));
  FillV2(host, "other");
  host.Write("other", "pids.current", "many\n");
  StatusOr<ResourceUsage> usage = host.Usage();
  CHECK(absl::IsInternal(usage.status()));
  CHECK(usage.status().message().find("pids.current") != absl::string_view::npos);
}

TEST_CASE("who is idle is written where the CPU's controller is, and not where it is unknown") {
  Hierarchies v1;
  FillV1(v1);
  CHECK(absl::IsNotFound(v1.SetIdle(true)));
  v1.Write("cpu,cpuacct", "cpu.idle", "0");
  REQUIRE(v1.SetIdle(true).ok());
  CHECK(v1.Read("cpu,cpuacct", "cpu.idle") == "1");
  REQUIRE(v1.SetIdle(false).ok());
  CHECK(v1.Read("cpu,cpuacct", "cpu.idle") == "0");
  Hierarchies v2;
  FillV2(v2, "unified");
  v2.Write("unified", "cpu.idle", "0");
  REQUIRE(v2.SetIdle(true).ok());
  CHECK(v2.Read("unified", "cpu.idle") == "1");
}

TEST_CASE("a thread is moved where the CPU's controller is version 1's") {
  Hierarchies v1;
  FillV1(v1);
  CHECK(absl::IsNotFound(v1.MoveThread(12)));
  v1.Write("cpu,cpuacct", "tasks", "");
  REQUIRE(v1.MoveThread(12).ok());
  CHECK(v1.Read("cpu,cpuacct", "tasks") == "12");
  Hierarchies v2;
  FillV2(v2, "unified");
  CHECK(v2.ThreadCpuCgroup().empty());
}

}  // namespace
}  // namespace ctr
