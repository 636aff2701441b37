#pragma once

#include <memory>
#include <string>

#include "agent/control/supervisor.h"
#include "tests/fakes/loop.h"
#include "tests/unit/sim/sim_runtime.h"
#include "tests/unit/sim/sim_store.h"

namespace ctr::sim {

// A supervisor, the real one, on a host of its own: a runtime, a disk and processes that fail it,
// all in virtual time and from one seed. The agent is killed and started again.
class SimHost {
 public:
  SimHost(const SimHost&) = delete;

 protected:
  explicit SimHost(uint64_t seed);
  // Whoever derives from it calls Crash at its end.
  virtual ~SimHost();

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

  Supervisor* supervisor() { return life_ && life_->recovered ? life_->supervisor.get() : nullptr; }
  void StartAgent();
  void Crash();
  // Until its end, or until something is broken.
  void RunFor(Duration duration);

  // What is told of, and asked, who looks on.
  virtual bool broken() const = 0;
  virtual void Fail(const std::string& what) = 0;
  virtual void Note(const std::string& step) = 0;
  virtual void AgentStarts() {}
  virtual void AgentRecovered() {}
  virtual void AgentDied() {}
  virtual void Look() {}  // now and then

  const uint64_t seed_;
  Dice dice_;
  Faults faults_;
  SimClock clock_;
  SimRuntime runtime_;
  SimStore store_;
  const int parallel_starts_;
  int crash_after_ = 0;  // so many more handlers of the loop; 0: not planned
  std::unique_ptr<Life> life_;
  static inline SimClock* current_clock_ = nullptr;  // of the one that there is

 private:
  SupervisorOptions Options();
  void RunReady();

  MonoTime looked_at_;
};

}  // namespace ctr::sim
