#include <fcntl.h>
#include <signal.h>

#include <filesystem>
#include <fstream>

#include <doctest/doctest.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "agent/runtime/containerd/client.h"
#include "agent/runtime/containerd/purge.h"
#include "tests/integration/runtime/runtime_fixture.h"
#include "tests/integration/runtime/runtime_image.h"

namespace ctr {
namespace {

// Runs the loop until the containerd of `old_pid` was replaced by another.
void AwaitRestart(RuntimeFixture& t, int old_pid) {
  t.RunUntil([&] {
    int pid = t.ContainerdPid();
    return pid != 0 && pid != old_pid;
  });
}

TEST_CASE("the next agent finds the containers of the last one on the same containerd") {
  RuntimeFixture t;
  Container running =
      t.StartNew({"/bin/sh", "-c", "trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done"});
  t.AwaitOutput(running.id, "ready");
  Container created = t.Create(t.Spec({"/bin/sleep", "1000"}));
  Container exited = t.StartNew({"/bin/sh", "-c", "exit 9"});
  t.WaitExit(exited.id);
  int containerd = t.ContainerdPid();

  t.Reopen();
  CHECK(t.ContainerdPid() == containerd);
  StatusOr<std::vector<Container>> listed = t.Run(t.runtime_->List());
  REQUIRE_MESSAGE(listed.ok(), listed.status().ToString());
  REQUIRE(listed->size() == 3);
  for (const Container& container : *listed) {
    CAPTURE(container.id);
    CHECK(container.name.ToString() == "web/alice");
    CHECK(container.generation == 7);
    CHECK(container.revision == "0123456789ab");
    CHECK(container.stop_signal == SIGUSR1);
    if (container.id == exited.id) {
      CHECK(container.phase == ContainerPhase::kExited);
      CHECK(container.pid == 0);
      CHECK(container.netns == nullptr);
    } else {
      bool is_running = container.id == running.id;
      CHECK(container.phase == (is_running ? ContainerPhase::kRunning : ContainerPhase::kCreated));
      CHECK(container.pid == (is_running ? running.pid : created.pid));
      CHECK(container.netns != nullptr);
    }
  }
  CHECK(t.WaitExit(exited.id).code == 9);
  CHECK(t.Run(t.runtime_->Start(created.id)).ok());
  CHECK(t.Run(t.runtime_->Signal(running.id, SIGTERM)).ok());
  CHECK(t.WaitExit(running.id).code == 5);
}

TEST_CASE(
    "containerd killed by SIGKILL is started again, and an exit that it missed is told right") {
  RuntimeFixture t;
  Container container =
      t.StartNew({"/bin/sh", "-c", "trap 'exit 6' TERM; echo ready; while :; do sleep 0.01; done"});
  t.AwaitOutput(container.id, "ready");
  std::optional<StatusOr<ContainerExit>> exit;
  asio::co_spawn(
      t.io_, t.runtime_->WaitExit(container.id),
      [&](std::exception_ptr, StatusOr<ContainerExit> result) { exit = std::move(result); });
  t.RunUntil([&] { return true; });

  int containerd = t.ContainerdPid();
  REQUIRE(::kill(containerd, SIGKILL) == 0);
  // Past containerd: it is away.
  CHECK(t.Run(t.runtime_->Signal(container.id, SIGTERM)).ok());
  t.RunUntil([&] { return exit.has_value(); });
  REQUIRE_MESSAGE(exit->ok(), exit->status().ToString());
  CHECK((*exit)->code == 6);
  AwaitRestart(t, containerd);

  // Everything goes on.
  CHECK(t.Run(t.runtime_->Remove(container.id)).ok());
  CHECK(t.PartsOf(container.id).empty());
  Container next = t.StartNew({"/bin/sh", "-c", "exit 0"});
  CHECK(t.WaitExit(next.id).code == 0);
}

TEST_CASE("a container goes on running while containerd is away, and its later exit is told") {
  RuntimeFixture t;
  Container container =
      t.StartNew({"/bin/sh", "-c", "trap 'exit 8' TERM; echo ready; while :; do sleep 0.01; done"});
  t.AwaitOutput(container.id, "ready");
  std::optional<StatusOr<ContainerExit>> exit;
  asio::co_spawn(
      t.io_, t.runtime_->WaitExit(container.id),
      [&](std::exception_ptr, StatusOr<ContainerExit> result) { exit = std::move(result); });
  int containerd = t.ContainerdPid();
  REQUIRE(::kill(containerd, SIGKILL) == 0);
  AwaitRestart(t, containerd);
  CHECK_FALSE(exit.has_value());
  CHECK(t.Run(t.runtime_->Signal(container.id, SIGTERM)).ok());
  t.RunUntil([&] { return exit.has_value(); });
  REQUIRE_MESSAGE(exit->ok(), exit->status().ToString());
  CHECK((*exit)->code == 8);
}

TEST_CASE("a root file system without a container is removed at the next start") {
  RuntimeFixture t;
  auto prepare = [](RuntimeFixture* t) -> awaitable<Status> {
    ContainerdClient client(t->options_.Socket(), "ctr-" + t->options_.agent_id);
    snapshots::PrepareSnapshotRequest request;
    request.set_snapshotter(kSnapshotter);
    request.set_key("left-over");
    (*request.mutable_labels())["containerd.io/gc.root"] = "1";
    (*request.mutable_labels())["ctr.agent"] = t->options_.agent_id;
    co_return (co_await client.Call(&SnapshotsApi::Prepare, std::move(request))).status();
  };
  REQUIRE(t.Run(prepare(&t)).ok());
  CHECK(t.PartsOf("left-over") == std::vector<std::string>{"snapshot"});
  t.Reopen();
  CHECK(t.PartsOf("left-over").empty());
}

TEST_CASE("purging ends what runs although containerd was killed before") {
  RuntimeFixture t;
  Container container = t.StartNew({"/bin/sleep", "1000"});
  t.runtime_.reset();
  REQUIRE(::kill(t.ContainerdPid(), SIGKILL) == 0);
  Status purged =
      t.Run(PurgeContainerd(t.options_, &t.clock_, t.io_.get_executor(), t.work_.get_executor()));
  CHECK_MESSAGE(purged.ok(), purged.ToString());
  // Its process is gone; the fixture looks for the rest.
  CHECK(::kill(container.pid, 0) != 0);
}

TEST_CASE("somebody else's containerd is used, and purging leaves it as it was") {
  RuntimeFixture t;
  ContainerdOptions guest;
  guest.agent_id = t.options_.agent_id + "-guest";
  guest.data_dir = t.folder_ + "/guest-data";
  guest.run_dir = t.folder_ + "/guest-run";
  guest.logger_path = t.options_.logger_path;
  guest.external_socket = t.options_.Socket();
  Container hosts = t.StartNew({"/bin/sleep", "1000"});
  {
    auto opened = t.Run(
        ContainerdRuntime::Open(guest, &t.clock_, t.io_.get_executor(), t.work_.get_executor()));
    REQUIRE_MESSAGE(opened.ok(), opened.status().ToString());
    CHECK(absl::StrContains((*opened)->Describe(), "external"));
    auto archive = UniqueFd(::open((t.folder_ + "/busybox.tar").c_str(), O_RDONLY | O_CLOEXEC));
    REQUIRE(t.Run((*opened)->ImportImages(std::move(archive), "", nullptr)).ok());
    ContainerSpec spec = t.Spec({"/bin/sleep", "1000"});
    REQUIRE(t.Run((*opened)->Create(spec)).ok());
    REQUIRE(t.Run((*opened)->Start(spec.id)).ok());
    CHECK(t.Run((*opened)->List())->size() == 1);
  }
  Status purged =
      t.Run(PurgeContainerd(guest, &t.clock_, t.io_.get_executor(), t.work_.get_executor()));
  CHECK_MESSAGE(purged.ok(), purged.ToString());

  CHECK_FALSE(std::filesystem::exists(guest.run_dir + "/containerd"));
  auto namespaces_left =
      [](std::string socket) -> awaitable<StatusOr<namespaces::ListNamespacesResponse>> {
    ContainerdClient client(std::move(socket), "ctr");
    co_return co_await client.Call(&NamespacesApi::List, {});
  };
  auto left = t.Run(namespaces_left(t.options_.Socket()));
  REQUIRE(left.ok());
  for (const auto& space : left->namespaces())
    CHECK_FALSE(absl::StrContains(space.name(), "guest"));
  CHECK(t.Run(t.runtime_->CheckImage(kBusyboxImage)).ok());
  CHECK(t.Run(t.runtime_->List())->size() == 1);
  CHECK(::kill(hosts.pid, 0) == 0);
}

TEST_CASE("what keeps containerd from starting is told in one line") {
  RuntimeFixture t;
  ContainerdOptions options = t.options_;

  options.run_dir = "/tmp/" + std::string(100, 'x');
  options.data_dir = t.folder_ + "/other";
  auto opened = t.Run(
      ContainerdRuntime::Open(options, &t.clock_, t.io_.get_executor(), t.work_.get_executor()));
  CHECK(absl::StrContains(opened.status().message(), "choose a shorter --run-dir"));

  options.run_dir = t.folder_ + "/other-run";
  std::ofstream(t.folder_ + "/file") << "no folder";
  options.data_dir = t.folder_ + "/file";
  opened = t.Run(
      ContainerdRuntime::Open(options, &t.clock_, t.io_.get_executor(), t.work_.get_executor()));
  CHECK(absl::StrContains(opened.status().message(), "cannot make the folder " + options.data_dir));

  options.data_dir = t.folder_ + "/a:b";
  opened = t.Run(
      ContainerdRuntime::Open(options, &t.clock_, t.io_.get_executor(), t.work_.get_executor()));
  CHECK(absl::StrContains(opened.status().message(), "choose another --data-dir"));

  options.external_socket = t.folder_ + "/nobody.sock";
  opened = t.Run(
      ContainerdRuntime::Open(options, &t.clock_, t.io_.get_executor(), t.work_.get_executor()));
  CHECK(absl::IsUnavailable(opened.status()));
  CHECK(absl::StrContains(opened.status().message(), "nobody.sock"));
}

}  // namespace
}  // namespace ctr
