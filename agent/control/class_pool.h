#pragma once

#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "agent/control/class_usage.h"
#include "agent/control/instance.h"
#include "agent/policy/autoscale.h"
#include "agent/policy/nearest.h"

namespace ctr {

// What pools work with; it outlives them.
struct PoolServices {
  asio::any_io_executor executor;  // control's
  Clock& clock;
  Runtime& runtime;
  EventLog& events;
  const std::map<InstanceName, std::shared_ptr<Instance>>& instances;
  Passage::NowFunction now;
  const bool& held;  // another agent takes over: nothing is started or stopped
  // Creates it if it is unknown; does not start it.
  std::function<awaitable<StatusOr<std::shared_ptr<Instance>>>(InstanceName name,
                                                               std::string cause)>
      get;
};

// The instances of a class that routing owns, instance-0 … instance-N-1, where its policy is
// `nearest`: lets requests into the best of them that is ready, holds those that come while there
// is none, and sees to it that there are as many as it takes: one if the class has no autoscale,
// else as many as policy::Autoscaler wants. Home: the control loop.
class ClassPool : public std::enable_shared_from_this<ClassPool> {
 public:
  ClassPool(PoolServices& services, std::shared_ptr<ClassState> class_state);
  ClassPool(const ClassPool&) = delete;

  // Begins its work, which ends with Close.
  void Start();
  void Close();
  bool closed() const { return closed_; }
  // The class is another one now; its policy is still `nearest`.
  void Configure();

  // Lets a request into the best one that is ready, first come first served; waits for one to be.
  // Errors carry the ingress's codes.
  awaitable<StatusOr<Passage>> Admit(MonoTime deadline, std::string cause, size_t bytes);

  // An instance of the class has changed its state.
  void Changed();
  // A start has failed: if there is nobody else to wait for, who waits is told.
  void StartFailed(const InstanceName& name, const Status& failure);

  size_t queued() const { return waiters_.size(); }

  // For `ctr autoscale status` and `ctr route --explain`.
  struct Told {
    WallTime at;
    int desired = 0;
    std::string reason;
  };
  const std::optional<policy::AutoscaleDecision>& decision() const { return decision_; }
  const std::deque<Told>& history() const { return history_; }  // the newest last
  int live() const;
  int healthy() const;  // with their readiness check
  struct Considered {
    InstanceName name;
    policy::Considered considered;
    policy::Candidate candidate;
  };
  std::vector<Considered> Explain();

 private:
  struct Waiter {
    std::unique_ptr<Alarm> alarm;
    std::string cause;
    MonoTime since;
    size_t bytes = 0;
    std::optional<StatusOr<Passage>> outcome;
  };
  class Waiting;

  const ClassConfig& config() const { return *class_->config; }
  std::map<int, std::shared_ptr<Instance>> Members() const;
  std::vector<std::shared_ptr<Slot>> Slots() const;
  awaitable<void> Run(std::shared_ptr<ClassPool> self);
  bool IsActive() const;
  // Lets in who waits, so far as there is room.
  void Serve();
  // Has whoever comes to one of the instances wait behind those who do.
  void TellQueue(bool waits);
  void FailAll(const Status& failure);
  // Requests that wait, those aside that may find a place at once.
  int Queued() const;
  // Who waits has nobody to wait for, and nobody may be started.
  Status CheckHope() const;
  void Sample(MonoTime now);
  void Tick(MonoTime now);
  uint64_t CountServed();
  bool IsFull(int count) const;
  void WakeOne();
  void Scale(MonoTime now);
  policy::AutoscaleView View(std::vector<policy::ScaledInstance>& instances) const;
  int HostCapacity(int live) const;
  void CarryOut(const policy::AutoscaleDecision& decision);
  void StartOne(int index, std::string cause);
  static awaitable<void> StartInstance(std::shared_ptr<ClassPool> self, int index,
                                       std::string cause);

  PoolServices& services_;
  const std::shared_ptr<ClassState> class_;
  const std::unique_ptr<Alarm> alarm_;
  bool closed_ = false;
  std::list<Waiter*> waiters_;
  size_t held_bytes_ = 0;
  std::shared_ptr<const Slot::OnPlace> on_place_;
  bool queue_told_ = false;  // to an instance at least
  std::mt19937_64 random_{std::random_device()()};

  std::set<int> pending_;  // asked to start, and not known to do so yet
  ClassUsage usage_;
  std::optional<policy::Autoscaler> scaler_;
  std::optional<policy::AutoscaleDecision> decision_;
  std::deque<Told> history_;
  MonoTime next_sample_;
  MonoTime next_tick_;
  std::optional<MonoTime> last_tick_;  // none: it was not active
  double sampled_ = 0;                 // in flight, added up since the last tick
  int samples_ = 0;
  std::map<int, uint64_t> served_;  // requests, by index, until the last tick
};

// [autoscale] and what of the rest of the class counts.
policy::AutoscaleConfig AutoscaleConfigOf(const ClassConfig& config);

}  // namespace ctr
