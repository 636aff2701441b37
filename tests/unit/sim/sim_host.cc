#include "tests/unit/sim/sim_host.h"

#include <unistd.h>

#include <filesystem>

namespace ctr::sim {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

// No moment has that much to do.
constexpr int kSpins = 100'000;

// The agent makes folders for logs; the runs of one process share one, in memory where there is
// any.
const std::string& LogFolder() {
  struct Folder {
    Folder() {
      std::error_code ignored;
      std::filesystem::path base = std::filesystem::is_directory("/dev/shm", ignored)
                                       ? std::filesystem::path("/dev/shm")
                                       : std::filesystem::temp_directory_path();
      path = base / ("ctr-sim-" + std::to_string(::getpid()));
    }
    ~Folder() { std::filesystem::remove_all(path); }
    std::string path;
  };
  static const Folder folder;
  return folder.path;
}

}  // namespace

SimHost::SimHost(uint64_t seed)
    : seed_(seed),
      dice_(seed),
      runtime_(clock_, dice_, faults_),
      store_(clock_, dice_, faults_),
      parallel_starts_(dice_.Chance(0.3) ? 2 : 4) {
  current_clock_ = &clock_;
}

SimHost::~SimHost() { current_clock_ = nullptr; }

SupervisorOptions SimHost::Options() {
  SupervisorOptions options;
  options.instance_range = {0x7F4D0000, 16};
  options.class_range = {0x7F4C0000, 16};
  options.log_dir = LogFolder();
  options.parallel_starts = parallel_starts_;
  options.now = [] { return current_clock_->Now(); };
  options.probe = [this](const Container& container) -> ListenFunction {
    return [this, id = container.id] { return runtime_.Listening(id); };
  };
  options.check = [](CheckTarget) -> awaitable<CheckOutcome> {
    co_return CheckOutcome{policy::Check::Result::kPassed};
  };
  options.run_hook = [this](HookCall) -> awaitable<Status> {
    co_await clock_.SleepUntil(clock_.Now() + dice_.Within(milliseconds(1), milliseconds(500)));
    if (dice_.Chance(0.3)) co_return absl::InternalError("exit status 1");
    co_return absl::OkStatus();
  };
  options.reconcile_interval = minutes(1);
  return options;
}

void SimHost::StartAgent() {
  if (life_ || broken()) return;
  Note("the agent starts");
  runtime_.AgentStarts();
  AgentStarts();
  life_ = std::make_unique<Life>();
  auto executor = life_->io.get_executor();
  life_->supervisor = std::make_unique<Supervisor>(
      SupervisorServices{executor, executor, clock_, runtime_, store_, life_->cluster},
      life_->routes, Options());
  asio::co_spawn(executor, life_->supervisor->Recover(),
                 [this](std::exception_ptr exception, Status status) {
                   if (exception) std::rethrow_exception(exception);
                   if (!status.ok()) {
                     Note("it cannot recover: " + std::string(status.message()));
                     crash_after_ = 1;
                     return;
                   }
                   Note("it has recovered");
                   life_->recovered = true;
                   AgentRecovered();
                 });
}

void SimHost::Crash() {
  if (!life_) return;
  Note("the agent is killed");
  crash_after_ = 0;
  runtime_.AgentDied();
  clock_.DropWaits();
  life_->io.DropHandlers();
  life_->supervisor.reset();
  life_.reset();
  store_.Crash();
  AgentDied();
  clock_.At(clock_.Now() + dice_.Within(milliseconds(10), seconds(3)), [this] { StartAgent(); });
}

void SimHost::RunReady() {
  for (int count = 0; life_ && !broken() && life_->io.poll_one() > 0; ++count) {
    if (count > kSpins) Fail("the agent spins");
    if (crash_after_ > 0 && --crash_after_ == 0) Crash();
  }
}

void SimHost::RunFor(Duration duration) {
  const MonoTime end = clock_.Now() + duration;
  for (;;) {
    RunReady();
    if (broken()) return;
    if (clock_.Now() - looked_at_ >= milliseconds(250)) {
      looked_at_ = clock_.Now();
      Look();
    }
    if (!clock_.Step(end)) break;
  }
  RunReady();
}

}  // namespace ctr::sim
