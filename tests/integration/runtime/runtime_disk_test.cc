// Kept disks, records on containers, and what is swept.
#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>

#include <filesystem>
#include <fstream>
#include <set>

#include <doctest/doctest.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "agent/runtime/containerd/client.h"
#include "agent/runtime/containerd/disk.h"
#include "tests/integration/runtime/image_archives.h"
#include "tests/integration/runtime/runtime_fixture.h"
#include "tests/integration/runtime/runtime_image.h"

namespace ctr {
namespace {

namespace fs = std::filesystem;

ContainerSpec KeptSpec(RuntimeFixture& t, const std::string& script) {
  ContainerSpec spec = t.Spec({"/bin/sh", "-c", script});
  spec.keep_disk = true;
  return spec;
}

ContainerExit RunKept(RuntimeFixture& t, const std::string& script, bool remove = true) {
  Container container = t.Create(KeptSpec(t, script));
  REQUIRE(t.Run(t.runtime_->Start(container.id)).ok());
  ContainerExit exit = t.WaitExit(container.id);
  if (remove) REQUIRE(t.Run(t.runtime_->Remove(container.id)).ok());
  return exit;
}

std::vector<KeptDisk> Disks(RuntimeFixture& t) {
  StatusOr<std::vector<KeptDisk>> disks = t.Run(t.runtime_->ListDisks());
  REQUIRE_MESSAGE(disks.ok(), disks.status().ToString());
  return *std::move(disks);
}

std::string RecordOfOnly(RuntimeFixture& t) {
  StatusOr<std::vector<Container>> listed = t.Run(t.runtime_->List());
  REQUIRE(listed.ok());
  REQUIRE(listed->size() == 1);
  return listed->front().record;
}

awaitable<Status> PlantSnapshot(ContainerdClient* client, std::string key, std::string agent_id) {
  snapshots::PrepareSnapshotRequest request;
  request.set_snapshotter(kSnapshotter);
  request.set_key(key);
  (*request.mutable_labels())["containerd.io/gc.root"] = "1";
  (*request.mutable_labels())["ctr.agent"] = agent_id;
  co_return (co_await client->Call(&SnapshotsApi::Prepare, std::move(request))).status();
}

awaitable<Status> RemoveSnapshotOf(ContainerdClient* client, std::string key) {
  snapshots::RemoveSnapshotRequest request;
  request.set_snapshotter(kSnapshotter);
  request.set_key(key);
  co_return (co_await client->Call(&SnapshotsApi::Remove, std::move(request))).status();
}

// Every hierarchy's folder of a cgroup.
std::vector<std::string> MakeCgroup(const std::string& path) {
  std::vector<std::string> folders;
  const StatusOr<Cgroups> cgroups = Cgroups::Detect();
  REQUIRE(cgroups.ok());
  for (const std::string& mount_point : cgroups->mount_points()) {
    std::error_code error;
    if (fs::create_directories(mount_point + path, error)) folders.push_back(mount_point + path);
  }
  return folders;
}

std::vector<std::string> Sweep(RuntimeFixture& t, std::set<std::string> alive) {
  StatusOr<std::vector<std::string>> swept =
      t.Run(t.runtime_->Sweep([alive](const std::string& id) { return alive.contains(id); }));
  REQUIRE_MESSAGE(swept.ok(), swept.status().ToString());
  return *std::move(swept);
}

TEST_CASE("a record of any length comes back with its container") {
  RuntimeFixture t;
  std::string ascii(100 << 10, 'x');
  std::string accented;
  while (accented.size() < 256 << 10) accented += "aä€𝄞";
  for (const std::string& record : {std::string(), std::string("{}"), ascii, accented}) {
    ContainerSpec spec = t.Spec({"/bin/sleep", "1000"});
    spec.record = record;
    Container container = t.Create(spec);
    CHECK(container.record == record);
    CHECK(RecordOfOnly(t) == record);
    REQUIRE(t.Run(t.runtime_->Remove(container.id)).ok());
  }
}

TEST_CASE("what was written on a kept disk is there at the next start, whatever ended the last") {
  RuntimeFixture t;
  CHECK(RunKept(t, "echo one > /mark").code == 0);
  CHECK(RunKept(t, "grep one /mark && echo two >> /mark").code == 0);
  // Nothing of another container's.
  Container other = t.StartNew({"/bin/sh", "-c", "test ! -e /mark"});
  CHECK(t.WaitExit(other.id).code == 0);
  int containerd = t.ContainerdPid();
  REQUIRE(::kill(containerd, SIGKILL) == 0);
  t.RunUntil([&] { return t.ContainerdPid() != 0 && t.ContainerdPid() != containerd; });
  t.Reopen();
  CHECK(RunKept(t, "grep two /mark").code == 0);
  REQUIRE(t.Run(t.runtime_->RemoveDisk({"web", "alice"})).ok());
  CHECK(Disks(t).empty());
  CHECK(RunKept(t, "test ! -e /mark").code == 0);
}

TEST_CASE("a kept disk goes with its first container if that can't be made, and stays else") {
  RuntimeFixture t;
  ContainerSpec broken = t.Spec({"/missing"});
  broken.keep_disk = true;
  CHECK_FALSE(t.Run(t.runtime_->Create(broken)).ok());
  CHECK(Disks(t).empty());
  CHECK(RunKept(t, "echo one > /mark").code == 0);
  broken.id = t.Spec({}).id;
  CHECK_FALSE(t.Run(t.runtime_->Create(broken)).ok());
  CHECK(RunKept(t, "grep one /mark").code == 0);
}

TEST_CASE("a container that an earlier agent left on a kept disk is gone before the next uses it") {
  RuntimeFixture t;
  Container left = t.Create(KeptSpec(t, "echo one > /mark; sleep 1000"));
  REQUIRE(t.Run(t.runtime_->Start(left.id)).ok());
  t.RunUntil([&] { return fs::exists(absl::StrCat("/proc/", left.pid, "/root/mark")); });
  t.Reopen();
  Container next = t.Create(KeptSpec(t, "grep one /mark"));
  CHECK(t.PartsOf(left.id).empty());
  REQUIRE(t.Run(t.runtime_->Start(next.id)).ok());
  CHECK(t.WaitExit(next.id).code == 0);
  // A disk that is in use goes with what uses it.
  REQUIRE(t.Run(t.runtime_->RemoveDisk({"web", "alice"})).ok());
  CHECK(t.PartsOf(next.id).empty());
  CHECK(Disks(t).empty());
}

TEST_CASE("a kept disk has the record of its newest container, and survives sweeps") {
  RuntimeFixture t;
  for (const std::string record : {"first", "second"}) {
    ContainerSpec spec = KeptSpec(t, "exit 0");
    spec.record = record + std::string(10'000, '.');
    Container container = t.Create(spec);
    REQUIRE(t.Run(t.runtime_->Remove(container.id)).ok());
    CHECK(Sweep(t, {}).empty());
    t.Reopen();
    std::vector<KeptDisk> disks = Disks(t);
    REQUIRE(disks.size() == 1);
    CHECK(disks[0].name.ToString() == "web/alice");
    CHECK(disks[0].record == spec.record);
  }
}

TEST_CASE("a start on a kept disk that fails leaves the disk") {
  RuntimeFixture t;
  CHECK(RunKept(t, "echo one > /mark").code == 0);
  ContainerSpec spec = KeptSpec(t, "");
  spec.entrypoint = std::vector<std::string>{"/nope"};
  StatusOr<Container> made = t.Run(t.runtime_->Create(spec));
  if (made.ok()) {
    CHECK_FALSE(t.Run(t.runtime_->Start(spec.id)).ok());
    REQUIRE(t.Run(t.runtime_->Remove(spec.id)).ok());
  }
  CHECK(RunKept(t, "grep one /mark").code == 0);
}

// Another image has the name that busybox had.
std::string MoveName(RuntimeFixture& t) {
  const OciLayout other({MakeLayer("bin/new", "#!/bin/sh\n")}, kBusyboxImage);
  const std::string path = t.folder_ + "/other.tar";
  WriteWholeFile(path, other.Archive());
  UniqueFd archive(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  const auto imported = t.Run(t.runtime_->ImportImages(std::move(archive), "", nullptr));
  REQUIRE_MESSAGE(imported.ok(), imported.status().ToString());
  return t.Run(t.runtime_->ListImages()).value().front().digest;
}

TEST_CASE("a kept disk's container has the digest of the image that the disk was made from") {
  RuntimeFixture t;
  Container first = t.Create(KeptSpec(t, "exit 0"));
  REQUIRE(t.Run(t.runtime_->Remove(first.id)).ok());
  const std::string moved = MoveName(t);
  REQUIRE(moved != first.image_digest);
  for (int start = 0; start < 2; ++start) {
    Container later = t.Create(KeptSpec(t, "exit 0"));
    CHECK(later.image_digest == first.image_digest);
    t.Reopen();
    CHECK(t.Run(t.runtime_->List()).value().front().image_digest == first.image_digest);
    REQUIRE(t.Run(t.runtime_->Remove(later.id)).ok());
  }
  ContainerSpec spec = KeptSpec(t, "");
  spec.entrypoint = std::vector<std::string>{"/bin/new"};
  const Status missing = t.Run(t.runtime_->Create(spec)).status();
  CHECK_MESSAGE(absl::StrContains(missing.message(), "not found in the kept disk of web/alice"),
                missing.ToString());

  REQUIRE(t.Run(t.runtime_->RemoveDisk({"web", "alice"})).ok());
  ContainerSpec fresh = KeptSpec(t, "");
  fresh.entrypoint = std::vector<std::string>{"/bin/new"};
  const Status refused = t.Run(t.runtime_->Create(fresh)).status();
  CHECK_MESSAGE(absl::StrContains(refused.message(), "is not executable in the image"),
                refused.ToString());
}

TEST_CASE("sweeping removes what is left of containers that are gone, and nothing else") {
  RuntimeFixture t;
  ContainerdClient client(t.options_.Socket(), "ctr-" + t.options_.agent_id);
  Container running = t.StartNew({"/bin/sleep", "1000"});
  const std::string ours = "/ctr/" + t.options_.agent_id;
  REQUIRE(t.Run(PlantSnapshot(&client, "left-snapshot", t.options_.agent_id)).ok());
  REQUIRE(t.Run(PlantSnapshot(&client, "making-snapshot", t.options_.agent_id)).ok());
  REQUIRE(t.Run(PlantSnapshot(&client, "foreign-snapshot", "somebody-else")).ok());
  REQUIRE_FALSE(MakeCgroup(ours + "/left-cgroup").empty());
  REQUIRE_FALSE(MakeCgroup(ours + "/making-cgroup").empty());
  const std::vector<std::string> agent = MakeCgroup(ours + "/agent");
  const std::vector<std::string> foreign = MakeCgroup(ours + "x/foreign-cgroup");
  const std::string tasks = t.options_.Paths().state + "/io.containerd.runtime.v2.task/";
  const std::string rootfs = tasks + "ctr-" + t.options_.agent_id + "/left-mount/rootfs";
  const std::string foreign_rootfs = t.folder_ + "/io.containerd.runtime.v2.task/other/x/rootfs";
  for (const std::string& folder : {rootfs, foreign_rootfs}) {
    fs::create_directories(folder);
    REQUIRE(::mount("tmpfs", folder.c_str(), "tmpfs", 0, "size=64k") == 0);
  }

  const std::vector<std::string> swept = Sweep(t, {running.id, "making-snapshot", "making-cgroup"});
  const std::string told = absl::StrJoin(swept, "; ");
  CAPTURE(told);
  CHECK(swept.size() == 3);
  for (const char* left : {"left-snapshot", "left-cgroup", "left-mount"}) {
    CAPTURE(left);
    CHECK(absl::StrContains(told, left));
    CHECK(t.PartsOf(left).empty());
  }
  CHECK_FALSE(fs::exists(fs::path(rootfs).parent_path()));
  CHECK(t.PartsOf("making-snapshot") == std::vector<std::string>{"snapshot"});
  CHECK(t.PartsOf("making-cgroup") == std::vector<std::string>{"cgroup"});
  CHECK(t.PartsOf("foreign-snapshot") == std::vector<std::string>{"snapshot"});
  for (const std::string& folder : foreign) CHECK(fs::exists(folder));
  for (const std::string& folder : agent) CHECK(fs::exists(folder));
  CHECK(absl::StrContains(ReadWholeFile("/proc/self/mountinfo"), foreign_rootfs));
  CHECK(::kill(running.pid, 0) == 0);
  CHECK(Sweep(t, {running.id, "making-snapshot", "making-cgroup"}).empty());

  ::umount2(foreign_rootfs.c_str(), MNT_DETACH);
  Cgroups::Detect()->Remove(ours + "x").IgnoreError();
  REQUIRE(t.Run(RemoveSnapshotOf(&client, "foreign-snapshot")).ok());
}

TEST_CASE("that containerd was away and is back is told") {
  RuntimeFixture t;
  Container container = t.StartNew({"/bin/sleep", "1000"});
  int told = 0;
  const auto watch = [](ContainerdRuntime* runtime, int* count) -> awaitable<void> {
    for (;;) {
      co_await runtime->AwaitReconnect();
      ++*count;
    }
  };
  asio::cancellation_signal stop;
  bool ended = false;
  asio::co_spawn(
      t.io_, watch(t.runtime_.get(), &told),
      asio::bind_cancellation_slot(stop.slot(), [&](std::exception_ptr) { ended = true; }));
  CHECK(Sweep(t, {container.id}).empty());
  CHECK(told == 0);
  REQUIRE(::kill(t.ContainerdPid(), SIGKILL) == 0);
  t.RunUntil([&] { return told > 0; });
  CHECK(t.Run(t.runtime_->List()).ok());
  stop.emit(asio::cancellation_type::terminal);
  t.RunUntil([&] { return ended; });
}

}  // namespace
}  // namespace ctr
