#pragma once

#include <unistd.h>

#include <filesystem>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "agent/config/class_file.h"
#include "agent/control/supervisor.h"
#include "tests/fakes/fake_runtime.h"
#include "tests/fakes/fake_store.h"
#include "tests/fakes/loop.h"
#include "tests/fakes/manual_clock.h"

namespace ctr {

inline constexpr char kWebClass[] = R"(
name = "web"
image = "demo:latest"
default_port = 8080
sleep_after = "10s"
)";

// A supervisor on a loop that the test turns by hand, with time that it moves by hand.
class World {
 public:
  World() : World(std::make_shared<FakeStore>(), nullptr) {}
  // A later life of the agent: the store and the runtime's containers are those of an earlier one.
  World(std::shared_ptr<FakeStore> kept_store, const FakeRuntime* before,
        policy::Check::Result first_check = policy::Check::Result::kPassed)
      : check_result(first_check), store(std::move(kept_store)), runtime(io.get_executor(), clock) {
    clock_now = &clock;
    if (before != nullptr) {
      runtime.containers = before->containers;
      runtime.disks = before->disks;
      runtime.space = before->space;
    }
    SupervisorOptions options;
    options.instance_range = {0x7F4D0000, 16};
    options.class_range = {0x7F4C0000, 16};
    options.log_dir = folder.string();
    options.disk_floor.memory_file = (folder / "disk-use").string();
    std::filesystem::create_directories(folder);
    options.now = [] { return clock_now->Now(); };
    options.probe = [this](const Container& container) -> ListenFunction {
      return [this, id = container.id]() -> StatusOr<std::vector<ListeningSocket>> {
        std::vector<ListeningSocket> sockets;
        auto found = runtime.containers.find(id);
        if (found == runtime.containers.end()) return sockets;
        for (uint16_t port : found->second.listening)
          sockets.push_back({.port = port, .any_address = true});
        return sockets;
      };
    };
    options.disk.look = [this]() -> StatusOr<DiskSpace> {
      return DiskSpace{.total_bytes = int64_t{1} << 40, .free_bytes = disk_free};
    };
    options.disk.reserve = [this](int64_t) {
      disk_reserved = true;
      return absl::OkStatus();
    };
    options.disk.release = [this] {
      disk_reserved = false;
      if (on_disk_release) on_disk_release();
      return absl::OkStatus();
    };
    options.disk.is_reserved = [this] { return disk_reserved; };
    options.check = [this](CheckTarget) -> awaitable<CheckOutcome> {
      ++checks;
      co_return CheckOutcome{check_result, "GET :8080/healthz answered 404"};
    };
    options.run_hook = [this](HookCall call) { return RunFakeHook(std::move(call)); };
    supervisor = std::make_unique<Supervisor>(
        SupervisorServices{io.get_executor(), work.get_executor(), clock, runtime, *store, cluster},
        routes, options);
    REQUIRE(Await(supervisor->Recover()).ok());
  }
  ~World() {
    work.join();
    io.DropHandlers();
    std::filesystem::remove_all(folder);
  }

  // Runs everything that is ready, on the loop and on the work pool.
  void Settle() {
    // A task takes several turns on the pool before it comes back: three quiet rounds are the end.
    for (int quiet = 0; quiet < 3; ++quiet) {
      io.restart();
      size_t ran = io.poll();
      std::promise<void> drained;
      asio::post(work, [&] { drained.set_value(); });
      drained.get_future().wait();
      io.restart();
      ran += io.poll();
      if (ran > 0) quiet = -1;
    }
  }

  void Advance(Duration duration) {
    Settle();
    clock.Advance(duration);
    Settle();
  }

  // Starts `task`; its result is there once it is done.
  template <typename T>
  std::shared_ptr<std::optional<T>> Spawn(awaitable<T> task) {
    auto result = std::make_shared<std::optional<T>>();
    asio::co_spawn(io, std::move(task), [result](std::exception_ptr exception, T value) {
      if (exception) std::rethrow_exception(exception);
      *result = std::move(value);
    });
    return result;
  }

  template <typename T>
  T Await(awaitable<T> task) {
    auto result = Spawn(std::move(task));
    for (int i = 0; i < 100 && !*result; ++i) Settle();
    REQUIRE(result->has_value());
    return std::move(**result);
  }

  void Apply(const std::string& source) {
    StatusOr<AppliedClass> result = Await(supervisor->ApplyClass(source, "test.toml", "test"));
    INFO(result.status().ToString());
    REQUIRE(result.ok());
  }

  std::shared_ptr<Instance> Create(const std::string& class_name, const std::string& id) {
    auto instance = Await(supervisor->GetOrCreate({class_name, id}, {}, Deadline(), "test"));
    INFO(instance.status().ToString());
    REQUIRE(instance.ok());
    return *instance;
  }
  std::shared_ptr<Instance> Started(const std::string& class_name, const std::string& id) {
    std::shared_ptr<Instance> instance = Create(class_name, id);
    REQUIRE(Await(supervisor->Start(instance, true, Deadline(), "test")).ok());
    return instance;
  }
  awaitable<StatusOr<Passage>> Wake(std::string id, size_t bytes = 0) {
    return supervisor->EnsureAwake({"web", std::move(id)}, WakeOrigin::kRequest, Deadline(),
                                   "GET / from 127.0.0.1", bytes);
  }

  // A request to the class, not to one of its instances.
  awaitable<StatusOr<Passage>> Route(std::string class_name = "web") {
    return supervisor->EnsureAwake({std::move(class_name), ""}, WakeOrigin::kRoute, Deadline(),
                                   "GET / from 127.0.0.1", 0);
  }

  awaitable<Status> RunFakeHook(HookCall call) {
    hooks.push_back(call);
    co_await clock.SleepUntil(clock.Now() + hook_time);
    co_return hook_result;
  }

  MonoTime Deadline() { return clock.Now() + std::chrono::seconds(60); }

  std::vector<HookCall> hooks;  // that were called
  Duration hook_time = Duration::zero();
  int64_t disk_free = int64_t{1} << 40;
  bool disk_reserved = false;
  std::function<void()> on_disk_release;
  Status hook_result;
  int checks = 0;  // of readiness, that were made
  policy::Check::Result check_result = policy::Check::Result::kPassed;

  static inline ManualClock* clock_now = nullptr;

  Loop io;
  asio::thread_pool work{1};
  ManualClock clock;
  std::shared_ptr<FakeStore> store;
  FakeRuntime runtime;
  LocalCluster cluster;
  RoutePublisher publisher;
  std::set<std::pair<uint32_t, uint16_t>> steered;
  Routes routes{publisher,
                {[this](uint32_t address, uint16_t port) {
                   steered.emplace(address, port);
                   return absl::OkStatus();
                 },
                 [this](uint32_t address, uint16_t port) { steered.erase({address, port}); }},
                {"localhost"}};
  std::filesystem::path folder =
      std::filesystem::temp_directory_path() / ("ctr-control-" + std::to_string(::getpid()));
  std::unique_ptr<Supervisor> supervisor;
};

}  // namespace ctr
