#include "tests/unit/sim/sim_world.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/config/class_file.h"

namespace ctr::sim {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

constexpr size_t kKeptSteps = 60;
// No moment has that much to do.
constexpr int kSpins = 100'000;
// With CTR_SIM_TELL every step is told as it is made: for what ends the process.
const bool kTold = std::getenv("CTR_SIM_TELL") != nullptr;

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

SimWorld::SimWorld(uint64_t seed, bool trace)
    : seed_(seed),
      dice_(seed),
      runtime_(clock_, dice_, faults_),
      store_(clock_, dice_, faults_),
      parallel_starts_(dice_.Chance(0.3) ? 2 : 4),
      judge_(clock_, runtime_, parallel_starts_),
      began_(clock_.Now()) {
  current_clock_ = &clock_;
  runtime_.set_observer(&judge_);
  if (trace) {
    judge_.trace = [this](const std::string& line) {
      steps_.push_back(absl::StrCat((clock_.Now() - began_) / milliseconds(1), " ms: ", line));
      if (steps_.size() > kKeptSteps) steps_.pop_front();
      if (kTold) std::fprintf(stderr, "%s\n", steps_.back().c_str());
    };
  }
}

SimWorld::~SimWorld() {
  Crash();
  current_clock_ = nullptr;
}

SupervisorOptions SimWorld::Options() {
  SupervisorOptions options;
  options.instance_range = {0x7F4D0000, 16};
  options.class_range = {0x7F4C0000, 16};
  options.log_dir = LogFolder();
  options.parallel_starts = parallel_starts_;
  options.now = [] { return current_clock_->Now(); };
  options.probe = [this](const Container& container) -> ListenFunction {
    return [this, id = container.id] { return runtime_.Listening(id); };
  };
  options.check = [](CheckTarget) -> awaitable<policy::Check::Result> {
    co_return policy::Check::Result::kPassed;
  };
  options.run_hook = [this](HookCall) -> awaitable<Status> {
    co_await clock_.SleepUntil(clock_.Now() + dice_.Within(milliseconds(1), milliseconds(500)));
    if (dice_.Chance(0.3)) co_return absl::InternalError("exit status 1");
    co_return absl::OkStatus();
  };
  options.reconcile_interval = minutes(1);
  return options;
}

void SimWorld::StartAgent() {
  if (life_ || broken()) return;
  judge_.OnTrace("the agent starts");
  runtime_.AgentStarts();
  judge_.AgentStarts();
  life_ = std::make_unique<Life>();
  auto executor = life_->io.get_executor();
  life_->supervisor = std::make_unique<Supervisor>(
      SupervisorServices{executor, executor, clock_, runtime_, store_, life_->cluster},
      life_->routes, Options());
  asio::co_spawn(executor, life_->supervisor->Recover(),
                 [this](std::exception_ptr exception, Status status) {
                   if (exception) std::rethrow_exception(exception);
                   if (!status.ok()) {
                     judge_.OnTrace("it cannot recover: " + std::string(status.message()));
                     crash_after_ = 1;
                     return;
                   }
                   judge_.OnTrace("it has recovered");
                   life_->recovered = true;
                   judge_.AgentRecovered(life_->supervisor.get());
                 });
}

void SimWorld::Crash() {
  if (!life_) return;
  judge_.OnTrace("the agent is killed");
  crash_after_ = 0;
  runtime_.AgentDied();
  clock_.DropWaits();
  life_->io.DropHandlers();
  life_->supervisor.reset();
  life_.reset();
  store_.Crash();
  judge_.AgentDied(store_.durable());
  for (const ClientPtr& client : std::list<ClientPtr>(open_)) {
    Returned(client, absl::UnavailableError("the agent has ended"));
  }
  clock_.At(clock_.Now() + dice_.Within(milliseconds(10), seconds(3)), [this] { StartAgent(); });
}

void SimWorld::RunReady() {
  for (int count = 0; life_ && !broken() && life_->io.poll_one() > 0; ++count) {
    if (count > kSpins) judge_.Fail("the agent spins");
    if (crash_after_ > 0 && --crash_after_ == 0) Crash();
  }
}

void SimWorld::RunFor(Duration duration) {
  const MonoTime end = clock_.Now() + duration;
  for (;;) {
    RunReady();
    if (broken()) return;
    if (clock_.Now() - looked_at_ >= milliseconds(250)) {
      looked_at_ = clock_.Now();
      judge_.Look();
    }
    if (!clock_.Step(end)) break;
  }
  RunReady();
}

std::string SimWorld::Run() {
  DrawClasses();
  StartAgent();
  RunFor(seconds(1));
  ApplyClass(0);
  ApplyClass(1);
  RunFor(seconds(1));
  const int episodes = 2 + dice_.Below(3);
  for (int i = 0; i < episodes && !broken(); ++i) {
    Chaos();
    Calm();
  }
  if (!broken()) WakeAll();
  if (!broken()) return "";
  return absl::StrCat("seed ", seed_, ", after ", (clock_.Now() - began_) / milliseconds(1),
                      " ms: ", judge_.failure());
}

}  // namespace ctr::sim
