// Classes that scale themselves, in the simulated world: requests to the class come in waves while
// everything fails, and once faults end each is served, and the class goes to zero.
#include <deque>
#include <list>
#include <memory>
#include <string>

#include <doctest/doctest.h>

#include "absl/strings/str_cat.h"
#include "agent/base/work.h"
#include "tests/unit/sim/sim_host.h"

namespace ctr::sim::pool_sim_test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CTR_SIM_SANITIZED 1
#endif
#endif
#ifdef CTR_SIM_SANITIZED
constexpr uint64_t kRuns = 10;
#else
constexpr uint64_t kRuns = 150;
#endif

constexpr int kMax = 5;
constexpr size_t kKeptSteps = 60;

class PoolWorld final : public SimHost, private RuntimeObserver {
 public:
  PoolWorld(uint64_t seed, bool trace) : SimHost(seed), trace_(trace) {
    runtime_.set_observer(this);
  }
  ~PoolWorld() override { Crash(); }

  // "" or the promise that was broken, with the last steps.
  std::string Run() {
    StartAgent();
    RunFor(seconds(1));
    Apply();
    for (int episode = 0; episode < 2 && !broken(); ++episode) {
      Chaos();
      Calm();
    }
    if (!broken()) return "";
    std::string report = absl::StrCat("seed ", seed_, ": ", failure_);
    for (const std::string& step : steps_) absl::StrAppend(&report, "\n  ", step);
    return report;
  }
  int served() const { return served_; }
  int most() const { return most_; }

 private:
  struct Client {
    asio::cancellation_signal gone;
    bool ended = false;
    Status status;
  };
  using ClientPtr = std::shared_ptr<Client>;

  void Apply() {
    const std::string scale = dice_.Chance(0.2) ? "[route]\npolicy = \"nearest\"\ninstances = 3\n"
                                                : absl::StrCat("[autoscale]\nmax = ", kMax,
                                                               "\nwindow = \"6s\"\n"
                                                               "target_concurrency = 1\n");
    const std::string text = absl::StrCat(
        "name = \"pool\"\nimage = \"demo:latest\"\ndefault_port = 8080\nsleep_after = \"5s\"\n"
        "max_concurrency = 2\nmax_instances = 5\n",
        scale);
    asio::co_spawn(life_->io, supervisor()->ApplyClass(text, "pool.toml", "test"),
                   [this](std::exception_ptr, StatusOr<AppliedClass> applied) {
                     if (!applied.ok()) Fail(std::string(applied.status().message()));
                   });
    RunFor(seconds(1));
  }

  // One request to the class, which takes `lasts` once it is in.
  ClientPtr Ask(Duration lasts, Duration patience) {
    auto client = std::make_shared<Client>();
    open_.push_back(client);
    asio::co_spawn(life_->io, Request(this, client, lasts, patience),
                   asio::bind_cancellation_slot(client->gone.slot(),
                                                [this, client](std::exception_ptr, Status status) {
                                                  client->status = std::move(status);
                                                  client->ended = true;
                                                  open_.remove(client);
                                                }));
    return client;
  }
  static awaitable<Status> Request(PoolWorld* world, ClientPtr client, Duration lasts,
                                   Duration patience) {
    co_await AllowCancellation(false);
    StatusOr<Passage> passage = co_await world->life_->supervisor->EnsureAwake(
        {"pool", ""}, WakeOrigin::kRoute, world->clock_.Now() + patience, "a client", 0);
    CTR_CO_RETURN_IF_ERROR(passage.status());
    const InstanceName name = passage->slot()->name();
    world->CheckServed(name);
    ++world->served_;
    ++world->inside_[name];
    co_await world->clock_.SleepUntil(world->clock_.Now() + lasts);
    --world->inside_[name];
    co_return absl::OkStatus();
  }

  // Who is let in finds somebody there.
  void CheckServed(const InstanceName& name) {
    auto found = supervisor()->instances().find(name);
    if (found == supervisor()->instances().end() || !found->second->container()) {
      return Fail(absl::StrCat("a request was let into ", name.ToString(), ", which is not there"));
    }
  }

  void Chaos() {
    auto draw = [this](double often) {
      return dice_.Chance(0.5) ? often * (1 + dice_.Below(4)) : 0;
    };
    faults_ = {.slow = draw(0.03),
               .refused = draw(0.05),
               .lost_answer = draw(0.03),
               .exit_lost = draw(0.05),
               .commit = draw(0.05),
               .behind = draw(0.1),
               .process = draw(0.1),
               .stubborn = draw(0.05)};
    for (int i = 0; i < 120 && !broken(); ++i) {
      const int kind = dice_.Below(100);
      if (kind < 4) {
        if (life_ && crash_after_ == 0) crash_after_ = 1 + dice_.Below(250);
      } else if (kind < 7) {
        runtime_.Outage(dice_.Within(milliseconds(50), seconds(15)));
      } else if (kind < 12) {
        if (!open_.empty()) {
          (*std::next(open_.begin(), dice_.Below(static_cast<int>(open_.size()))))
              ->gone.emit(asio::cancellation_type::terminal);
        }
      } else if (supervisor() != nullptr) {
        for (int more = dice_.Below(6); more > 0; --more) {
          Ask(dice_.Within(milliseconds(1), seconds(6)), dice_.Within(seconds(1), seconds(60)));
        }
      }
      RunFor(dice_.Within(Duration::zero(), dice_.Chance(0.1) ? seconds(30) : seconds(1)));
    }
  }

  // Faults end: what comes is served, and the class falls asleep.
  void Calm() {
    Note("faults end");
    faults_ = Faults();
    crash_after_ = 0;
    RunFor(seconds(180));
    if (broken()) return;
    if (!open_.empty()) return Fail(absl::StrCat(open_.size(), " requests are stuck"));
    if (supervisor() == nullptr) return Fail("the agent did not recover");
    std::list<ClientPtr> clients;
    for (int i = 0; i < 6; ++i) clients.push_back(Ask(milliseconds(500), seconds(30)));
    RunFor(seconds(10));
    for (const ClientPtr& client : clients) {
      if (!client->ended) return Fail("a request has waited for ten seconds");
      if (!client->status.ok()) return Fail(std::string(client->status.message()));
    }
    RunFor(seconds(40));
    if (Live() > 0) Fail(absl::StrCat(Live(), " instances of an idle class are live"));
    if (!runtime_.boxes().empty()) Fail("a container is left");
  }

  int Live() {
    int live = 0;
    for (const auto& [name, instance] : supervisor()->instances()) {
      live += instance->state() != State::kStopped;
    }
    return live;
  }

  bool broken() const override { return !failure_.empty(); }
  void Fail(const std::string& what) override {
    if (failure_.empty()) failure_ = what;
  }
  void Note(const std::string& step) override {
    if (!trace_) return;
    steps_.push_back(
        absl::StrCat(clock_.Now().time_since_epoch() / milliseconds(1), " ms: ", step));
    if (steps_.size() > kKeptSteps) steps_.pop_front();
  }
  void AgentDied() override {
    inside_.clear();
    open_.clear();
  }
  void Look() override {
    if (supervisor() == nullptr) return;
    most_ = std::max(most_, Live());
    if (Live() > kMax) Fail(absl::StrCat(Live(), " instances are live"));
    auto pool = supervisor()->FindPool("pool");
    if (pool && open_.empty() && pool->queued() > 0) Fail("requests wait that nobody made");
  }

  void OnCreate(const ContainerSpec& spec) override {
    std::optional<int> index = RoutedIndexOf(spec.name.id);
    if (!index || *index >= kMax) Fail(spec.name.ToString() + " is not one of the class's");
  }
  void OnSignal(const Box& box, int) override {
    // No stop is asked for here, and drains last longer than requests.
    if (inside_[box.spec.name] > 0 && box.live() && !box.unsure) {
      Fail(absl::StrCat(box.Where(), " is signalled with requests inside"));
    }
  }
  void OnRemove(const Box&) override {}
  void OnRemoveDisk(const InstanceName&) override {}
  void OnListed(const Box&) override {}
  void OnStarted(const Box&) override {}
  void OnStarting(int) override {}
  bool tracing() const override { return trace_; }
  void OnTrace(const std::string& line) override { Note(line); }

  const bool trace_;
  std::list<ClientPtr> open_;
  std::map<InstanceName, int> inside_;
  std::deque<std::string> steps_;
  std::string failure_;
  int served_ = 0;
  int most_ = 0;
};

TEST_CASE("whatever fails, a class that scales serves again and goes to zero") {
  const char* only = std::getenv("CTR_SIM_SEED");
  int served = 0, most = 0;
  for (uint64_t seed = 1; seed <= kRuns; ++seed) {
    const uint64_t number = only != nullptr ? std::strtoull(only, nullptr, 10) : seed;
    PoolWorld world(number, false);
    std::string failure = world.Run();
    // Once more, to tell how it came to that.
    if (!failure.empty()) failure = PoolWorld(number, true).Run();
    REQUIRE_MESSAGE(failure.empty(), failure);
    served += world.served();
    most = std::max(most, world.most());
    if (only != nullptr) break;
  }
  CHECK(served > 0);
  CHECK(most > 1);
}

}  // namespace
}  // namespace ctr::sim::pool_sim_test
