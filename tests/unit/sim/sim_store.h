#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "tests/fakes/fake_store.h"
#include "tests/unit/sim/dice.h"
#include "tests/unit/sim/sim_clock.h"

namespace ctr::sim {

// A store whose disk outlives the agent: commits take time, fail, or last although their answer
// never comes; what is written behind waits up to a second, in order, and is lost by a crash before
// that.
class SimStore final : public Store {
 public:
  SimStore(SimClock& clock, Dice& dice, const Faults& faults)
      : clock_(clock), dice_(dice), faults_(faults) {}

  // What is on the disk.
  const FakeStore& durable() const { return durable_; }

  // The agent is killed.
  void Crash();

  awaitable<StatusOr<StoredState>> Load() override;
  awaitable<StatusOr<std::vector<Event>>> ReadEvents(EventQuery query) override;
  awaitable<Status> Commit(std::vector<Change> changes) override;
  void WriteBehind(std::vector<Change> changes) override;

 private:
  // Of a commit that waits.
  struct Answer {
    std::unique_ptr<Alarm> alarm;
    std::optional<Status> status;
  };
  struct Entry {
    std::vector<Change> changes;
    std::shared_ptr<Answer> answer;  // null: written behind
  };

  void FlushAfter(Duration delay);
  void Flush();

  SimClock& clock_;
  Dice& dice_;
  const Faults& faults_;
  FakeStore durable_;
  std::deque<Entry> queue_;
  int life_ = 0;  // of the agent
  bool behind_is_due_ = false;
};

}  // namespace ctr::sim
