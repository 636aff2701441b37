#pragma once

#include <deque>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "tests/unit/sim/judge.h"
#include "tests/unit/sim/sim_host.h"

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

// One run: clients of every kind on a host that fails them; faults come and end; the judge looks
// on.
class SimWorld final : public SimHost {
 public:
  // With `trace`, the last steps are kept as text.
  SimWorld(uint64_t seed, bool trace);
  ~SimWorld() override;

  // Runs it to its end. "" or the promise that was broken, with the virtual time.
  std::string Run();
  const std::deque<std::string>& steps() const { return steps_; }
  Duration lasted() const { return clock_.Now() - began_; }
  int events() const { return events_; }

 private:
  using ClientPtr = std::shared_ptr<Client>;

  bool broken() const override { return !judge_.failure().empty(); }
  void Fail(const std::string& what) override { judge_.Fail(what); }
  void Note(const std::string& step) override { judge_.OnTrace(step); }
  void AgentStarts() override { judge_.AgentStarts(); }
  void AgentRecovered() override { judge_.AgentRecovered(life_->supervisor.get()); }
  void AgentDied() override;
  void Look() override { judge_.Look(); }

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

  Judge judge_;
  std::deque<std::string> steps_;
  const MonoTime began_;

  std::vector<std::string> classes_;  // texts, by index; named c0, c1
  std::vector<InstanceName> names_;
  double busy_ = 1;
  int revision_ = 0;
  int events_ = 0;
  std::list<ClientPtr> open_;
};

}  // namespace ctr::sim
