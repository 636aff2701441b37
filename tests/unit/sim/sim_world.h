#pragma once

#include <deque>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "agent/control/supervisor.h"
#include "tests/fakes/loop.h"
#include "tests/unit/sim/judge.h"
#include "tests/unit/sim/sim_runtime.h"
#include "tests/unit/sim/sim_store.h"

namespace ctr::sim {

// A client's call that has not returned.
struct Client {
  Issued call;
  std::vector<Issued> others;  // of a class's removal: the destroys that it means
  std::string class_name;      // of a class's apply or removal
  std::string revision;
  uint64_t class_call = 0;
  asio::cancellation_signal gone;
};

// One run: a supervisor, the real one, among a runtime, a disk, processes and clients that fail it,
// all in virtual time and from one seed. The agent is killed and started again; faults come and
// end; the judge looks on.
class SimWorld {
 public:
  // With `trace`, the last steps are kept as text.
  SimWorld(uint64_t seed, bool trace);
  ~SimWorld();
  SimWorld(const SimWorld&) = delete;

  // Runs it to its end. "" or the promise that was broken, with the virtual time.
  std::string Run();
  const std::deque<std::string>& steps() const { return steps_; }
  Duration lasted() const { return clock_.Now() - began_; }
  int events() const { return events_; }

 private:
  // One life of the agent.
  struct Life {
    Life() : work(asio::make_work_guard(io)) {}
    Loop io;
    asio::executor_work_guard<asio::io_context::executor_type> work;
    RoutePublisher publisher;
    Routes routes{publisher,
                  {[](uint32_t, uint16_t) { return absl::OkStatus(); }, [](uint32_t, uint16_t) {}},
                  {"localhost"}};
    LocalCluster cluster;
    std::unique_ptr<Supervisor> supervisor;
    bool recovered = false;
  };
  using ClientPtr = std::shared_ptr<Client>;

  bool broken() const { return !judge_.failure().empty(); }
  Supervisor* supervisor() { return life_ && life_->recovered ? life_->supervisor.get() : nullptr; }
  SupervisorOptions Options();
  void StartAgent();
  void Crash();
  void RunReady();
  void RunFor(Duration duration);

  // The plan.
  void DrawClasses();
  std::string ClassText(int index);
  Faults DrawFaults();
  void Chaos();
  void Calm();
  void OneEvent();
  void WakeAll();

  // Clients; each starts a call and returns.
  using Body = std::function<awaitable<Status>(SimWorld*, ClientPtr)>;
  ClientPtr Spawn(Issued call, Body body);
  // Runs until the call has returned; for calm times.
  Status Await(Issued call, Body body);
  void Returned(const ClientPtr& client, const Status& status);
  Issued NewCall(Verb verb, InstanceName name);
  void ApplyClass(int index);
  void RemoveClass(int index);
  void CallAtRandom();
  static awaitable<Status> Guarded(SimWorld* world, ClientPtr client, Body body);
  static awaitable<void> Stay(SimWorld* world, Duration lasts);
  static awaitable<Status> Get(SimWorld* world, ClientPtr client, bool always);
  static awaitable<Status> Stop(SimWorld* world, ClientPtr client);
  static awaitable<Status> Restart(SimWorld* world, ClientPtr client);
  static awaitable<Status> Destroy(SimWorld* world, ClientPtr client);
  static awaitable<Status> Renew(SimWorld* world, ClientPtr client);
  static awaitable<Status> WaitFor(SimWorld* world, ClientPtr client, State state);
  static awaitable<Status> Request(SimWorld* world, ClientPtr client, Duration lasts);
  static awaitable<Status> Visiting(SimWorld* world, ClientPtr client, Duration lasts);

  static inline SimClock* current_clock_ = nullptr;

  const uint64_t seed_;
  Dice dice_;
  Faults faults_;
  SimClock clock_;
  SimRuntime runtime_;
  SimStore store_;
  int parallel_starts_;
  Judge judge_;
  std::deque<std::string> steps_;
  const MonoTime began_;

  std::vector<std::string> classes_;  // texts, by index; named c0, c1
  std::vector<InstanceName> names_;
  double busy_ = 1;
  int revision_ = 0;
  int events_ = 0;
  int crash_after_ = 0;  // so many more handlers of the loop; 0: not planned
  MonoTime looked_at_;
  std::list<ClientPtr> open_;
  std::unique_ptr<Life> life_;
};

}  // namespace ctr::sim
