#include <signal.h>

#include <doctest/doctest.h>

#include "absl/strings/match.h"
#include "tests/integration/runtime/runtime_fixture.h"
#include "tests/integration/runtime/runtime_image.h"

namespace ctr {
namespace {

TEST_CASE("a container runs, tells its exit code and its output, and leaves nothing when removed") {
  RuntimeFixture t;
  Container container =
      t.Create(t.Spec({"/bin/sh", "-c", "echo to stdout; echo to stderr >&2; exit 7"}));
  CHECK(container.phase == ContainerPhase::kCreated);
  CHECK(container.pid > 0);
  CHECK(container.netns != nullptr);
  CHECK(container.stop_signal == SIGUSR1);
  CHECK(container.name.ToString() == "web/alice");

  CHECK(t.Run(t.runtime_->Start(container.id)).ok());
  ContainerExit exit = t.WaitExit(container.id);
  CHECK(exit.code == 7);
  CHECK_FALSE(exit.oom_killed);
  // Asked again, it says so again.
  CHECK(t.WaitExit(container.id).code == 7);

  CHECK(t.Run(t.runtime_->Remove(container.id)).ok());
  CHECK(t.PartsOf(container.id).empty());
  // The shim merges the two; only within each of them is there an order.
  CHECK(absl::StrContains(t.Output(container.id), "to stdout\n"));
  CHECK(absl::StrContains(t.Output(container.id), "to stderr\n"));
  CHECK(absl::IsNotFound(t.Run(t.runtime_->WaitExit(container.id)).status()));
  // Removing is idempotent.
  CHECK(t.Run(t.runtime_->Remove(container.id)).ok());
}

TEST_CASE("a signal stops a container, and after its end there is nobody to signal") {
  RuntimeFixture t;
  Container container =
      t.StartNew({"/bin/sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done"});
  t.AwaitOutput(container.id, "ready");
  CHECK(t.Run(t.runtime_->Signal(container.id, SIGTERM)).ok());
  CHECK(t.WaitExit(container.id).code == 3);
  CHECK(absl::IsNotFound(t.Run(t.runtime_->Signal(container.id, SIGTERM))));

  container = t.StartNew({"/bin/sleep", "1000"});
  CHECK(t.Run(t.runtime_->Signal(container.id, SIGKILL)).ok());
  CHECK(t.WaitExit(container.id).code == 128 + SIGKILL);
  CHECK(absl::IsNotFound(t.Run(t.runtime_->Signal("nobody", SIGTERM))));
}

TEST_CASE("a running and a never started container are removed") {
  RuntimeFixture t;
  Container running = t.StartNew({"/bin/sh", "-c", "trap '' TERM; sleep 1000 & wait"});
  CHECK(t.Run(t.runtime_->Remove(running.id)).ok());
  CHECK(t.PartsOf(running.id).empty());

  Container created = t.Create(t.Spec({"/bin/sleep", "1000"}));
  CHECK(t.Run(t.runtime_->Remove(created.id)).ok());
  CHECK(t.PartsOf(created.id).empty());
}

TEST_CASE("an entrypoint that is missing or can't be run is refused by name and leaves nothing") {
  RuntimeFixture t;
  struct {
    const char* program;
    const char* expected;
  } cases[] = {
      {"/bin/nope", "program \"/bin/nope\" not found in the image"},
      {"nope", "program \"nope\" not found in the image"},
      {"/etc/passwd", "program \"/etc/passwd\" is not executable in the image"},
      {"/etc", "program \"/etc\" is not executable in the image"},
  };
  for (const auto& c : cases) {
    CAPTURE(c.program);
    ContainerSpec spec = t.Spec({c.program});
    std::string id = spec.id;
    Status status = t.Run(t.runtime_->Create(spec)).status();
    if (status.ok()) {
      status = t.Run(t.runtime_->Start(id));
      CHECK(t.Run(t.runtime_->Remove(id)).ok());
    }
    CHECK(absl::IsFailedPrecondition(status));
    CHECK_MESSAGE(absl::StartsWith(status.message(), c.expected), status.ToString());
    CHECK_FALSE(absl::StrContains(status.message(), "runc"));
    CHECK(t.PartsOf(id).empty());
  }
}

TEST_CASE("an unknown image is NOT_FOUND and leaves nothing") {
  RuntimeFixture t;
  ContainerSpec spec = t.Spec({"/bin/sh"});
  spec.image = "docker.io/library/nope:latest";
  std::string id = spec.id;
  Status status = t.Run(t.runtime_->Create(spec)).status();
  CHECK(absl::IsNotFound(status));
  CHECK(ErrorCodeOf(status) == code::kUnknownImage);
  CHECK(t.PartsOf(id).empty());
  CHECK(absl::IsNotFound(t.Run(t.runtime_->CheckImage(spec.image))));
  CHECK(t.Run(t.runtime_->CheckImage(kBusyboxImage)).ok());
}

TEST_CASE("a Remove waits for a Create whose caller is cancelled, and leaves nothing of it") {
  RuntimeFixture t;
  for (auto delay : {0, 1, 3, 10, 30}) {
    CAPTURE(delay);
    ContainerSpec spec = t.Spec({"/bin/sleep", "1000"});
    std::string id = spec.id;
    asio::cancellation_signal cancel;
    bool over = false;
    asio::co_spawn(
        t.io_, t.runtime_->Create(spec),
        asio::bind_cancellation_slot(
            cancel.slot(), [&](std::exception_ptr, StatusOr<Container>) { over = true; }));
    asio::steady_timer timer(t.io_, std::chrono::milliseconds(delay));
    timer.async_wait([&](ErrorCode error) {
      if (!error) cancel.emit(asio::cancellation_type::terminal);
    });
    t.RunUntil([&] { return over; });
    CHECK(t.Run(t.runtime_->Remove(id)).ok());
    CHECK(t.PartsOf(id).empty());
  }
  CHECK(t.Run(t.runtime_->List())->empty());
}

TEST_CASE("a container over its memory limit is told to be killed for it") {
  RuntimeFixture t;
  ContainerSpec spec = t.Spec({"/bin/tail", "/dev/zero"});
  spec.resources.memory_bytes = 16 << 20;
  Container container = t.Create(spec);
  REQUIRE(t.Run(t.runtime_->Start(container.id)).ok());
  ContainerExit exit = t.WaitExit(container.id);
  CHECK(exit.code == 128 + SIGKILL);
  CHECK(exit.oom_killed);
}

TEST_CASE("a container whose shim was killed can be removed") {
  RuntimeFixture t;
  Container container = t.StartNew({"/bin/sleep", "1000"});
  int shim = t.ParentOf(container.pid);
  REQUIRE(::kill(shim, SIGKILL) == 0);
  CHECK(t.Run(t.runtime_->Remove(container.id)).ok());
  CHECK(t.PartsOf(container.id).empty());
}

TEST_CASE("four containers at a time") {
  RuntimeFixture t;
  std::vector<std::string> ids;
  int made = 0;
  for (int i = 0; i < 4; ++i) {
    ContainerSpec spec = t.Spec({"/bin/sleep", "1000"});
    ids.push_back(spec.id);
    asio::co_spawn(t.io_, t.runtime_->Create(spec),
                   [&](std::exception_ptr, StatusOr<Container> result) {
                     CHECK(result.ok());
                     ++made;
                   });
  }
  t.RunUntil([&] { return made == 4; });
  CHECK(t.Run(t.runtime_->List())->size() == 4);
}

}  // namespace
}  // namespace ctr
