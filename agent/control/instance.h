#pragma once

#include <algorithm>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/histogram.h"
#include "agent/base/semaphore.h"
#include "agent/cluster/cluster.h"
#include "agent/control/check.h"
#include "agent/control/disk_guard.h"
#include "agent/control/event_log.h"
#include "agent/control/hook.h"
#include "agent/model/instance.h"
#include "agent/policy/lifecycle.h"
#include "agent/proxy/slot.h"
#include "agent/proxy/traffic.h"
#include "agent/runtime/runtime.h"
#include "agent/store/store.h"

namespace ctr {

// How long starts took, by phase; of starts that became healthy.
struct WakeTimes {
  DurationHistogram queue;   // waited for a turn
  DurationHistogram create;  // snapshot, container, task
  DurationHistogram start;   // the process
  DurationHistogram ready;   // until its ports listened
  DurationHistogram total;
  uint64_t failed = 0;  // starts that did not
};

// An agent was killing it for that when it was seen so, and it is to start again.
inline bool IsStoppedForDisk(const Observed& seen, Desired desired) {
  return seen.state == State::kStopping && seen.reason == StopReason::kDiskFull &&
         desired == Desired::kRunning;
}

// A class as control holds it; shared by its instances. On the control loop.
struct ClassState {
  ClassRecord record;
  std::string revision;
  std::string image_digest;  // of what its image's name means here, as last seen; "" if nothing
  MonoTime image_seen;       // when that was asked, at the earliest
  std::shared_ptr<const ClassConfig>
      config;  // == record.config; instances keep the one they were started with
  std::shared_ptr<Traffic> traffic = std::make_shared<Traffic>();
  WakeTimes wake_times;
  int live = 0;           // instances that are not stopped
  bool removing = false;  // makes no new instances

  void NoteImage(std::string digest, MonoTime asked) {
    if (asked < image_seen) return;
    image_digest = std::move(digest);
    image_seen = asked;
  }
};

// Lists the listening sockets of one container. Quick, on the control loop.
using ListenFunction = std::function<StatusOr<std::vector<ListeningSocket>>()>;
// By sock_diag in the container's network namespace.
ListenFunction ProbeByNetlink(const Container& container);

// Requests that wait in one queue, of an instance or of a class, and what they keep in memory.
inline constexpr size_t kHoldLimit = 4096;
inline constexpr size_t kHoldBytes = size_t{16} << 20;

// What an instance works with. All of it outlives every instance.
struct InstanceServices {
  asio::any_io_executor executor;  // control's
  asio::any_io_executor work;
  Clock& clock;
  Runtime& runtime;
  Store& store;
  Cluster& cluster;
  EventLog& events;
  DiskGuard& disk;
  Semaphore& start_queue;
  std::string log_dir;
  Passage::NowFunction now;
  std::function<ListenFunction(const Container&)> probe;
  CheckFunction check;
  HookFunction run_hook;
  Semaphore& hook_queue;
  const bool& held;      // another agent takes over: no step is begun
  const bool& disk_low;  // DiskFloor's
  // Pulls the image, unless it is here by now.
  std::function<awaitable<Status>(std::string image)> ensure_image;
  std::function<void(const InstanceName&)> on_forgotten;  // its row is gone
  std::function<void(const InstanceName&)> on_changed;    // its state
  std::function<void(const InstanceName&, const Status&)> on_start_failed;
};

struct StopRequest {
  int signal = 0;                      // 0: the class's, else the image's, else SIGTERM
  std::optional<Duration> grace = {};  // none: the class's
  std::string cause = {};              // who asks, for the record
  StopReason reason = StopReason::kRequested;
  bool at_once = false;  // killed, and what is in flight not waited for
};

class Instance;

// Something that runs inside of an instance beside its requests, exec or copy: keeps it awake,
// and is not waited for by a stop. On the control loop.
class Visit {
 public:
  Visit() = default;
  explicit Visit(std::shared_ptr<Instance> instance);
  Visit(Visit&& other) noexcept = default;
  Visit& operator=(Visit&& other) noexcept {
    std::swap(instance_, other.instance_);
    std::swap(container_id_, other.container_id_);
    return *this;
  }
  ~Visit();

  // The container that was visited, which may have ended by now.
  const std::string& container_id() const { return container_id_; }
  const std::shared_ptr<Instance>& instance() const { return instance_; }

 private:
  std::shared_ptr<Instance> instance_;
  std::string container_id_;
};

// One instance: observes its container, lets the policy decide, records, applies. A coroutine of
// its own converges it, one step at a time, and ends when there is nothing left to do; Nudge starts
// it again. Home: the control loop.
class Instance : public std::enable_shared_from_this<Instance> {
 public:
  Instance(InstanceServices& services, std::shared_ptr<ClassState> class_state,
           InstanceRecord record);

  const InstanceRecord& record() const { return record_; }
  const InstanceName& name() const { return record_.name; }
  const Observed& observed() const { return record_.observed; }
  State state() const { return record_.observed.state; }
  bool forgotten() const { return forgotten_; }
  // How often it came to be stopped: who waits for that may miss the state itself.
  uint64_t stops() const { return stops_; }
  bool destroying() const { return destroy_requested_; }
  // Held by who changes the record: read, commit, replace.
  Semaphore& edits() { return edits_; }
  const std::shared_ptr<ClassState>& class_state() const { return class_; }
  const std::shared_ptr<Slot>& slot() const { return slot_; }
  const std::optional<Container>& container() const { return container_; }
  // What it runs with; of one that does not run, what its next start would.
  const std::shared_ptr<const ClassConfig>& started_config() const {
    return begun_ ? running_config_ : class_->config;
  }
  const ClassConfig& config() const { return *started_config(); }
  // Whether it is another than the class would give by now: of an older revision, or of what its
  // image's name meant before. A start gives the newest, but for the image of a kept disk, which
  // stays until destroy.
  bool Outdated() const;
  bool RunsOldImage() const;
  // It was stopped for filling the disk, and does not start before there is room again.
  bool AwaitsRoom() const {
    return state() == State::kStopped && observed().reason == StopReason::kDiskFull &&
           services_.disk_low;
  }
  int visits() const { return visits_; }
  // As it is to be shown: one that is healthy, but for its readiness check, is `running`.
  State shown_state() const {
    const bool fails = state() == State::kHealthy && !slot_->load().passing();
    return fails ? State::kRunning : state();
  }
  // Of the current start.
  MonoTime started_at() const { return started_at_; }
  MonoTime healthy_at() const { return healthy_at_; }
  // After a start that failed, or an end by itself: it is not started again yet.
  bool IsBackingOff() const {
    return backoff_until_ && (restart_due_ || services_.clock.Now() < *backoff_until_);
  }
  // `start_failed`, with a time to try again, in a crash loop.
  Status CheckBackoff() const;
  // Requests and connections that wait for it to wake.
  size_t held() const {
    return static_cast<size_t>(std::count_if(
        waiters_.begin(), waiters_.end(), [](const Waiter* waiter) { return waiter->is_request; }));
  }
  std::string LogPath() const;
  // When it falls asleep if nothing more happens; nothing if it is busy, never does or does not
  // run.
  std::optional<MonoTime> SleepsAt() const;

  // Settings for later starts; the caller has them on disk.
  void ReplaceRecord(InstanceRecord record);

  // Its row is being committed for the first time.
  void SetUncommitted() { committed_ = false; }
  // The row's first commit ended: what waits in AwaitCommitted goes on. A failure forgets the
  // instance.
  void SetCommitted(const Status& status);
  awaitable<Status> AwaitCommitted();

  // Takes over a container of an earlier life of the agent, running or exited; the instance is
  // stopped so far. `seen`: what that agent saw last.
  void Adopt(Container container, const Observed& seen);
  // A container of an earlier life of the agent that is not taken over: it may live, and no other
  // start runs beside it.
  void RemoveLeftover(std::string container_id);
  // Instead, where there is no container of it: goes on with a restart that was due. `was_live`: an
  // earlier agent left it running, so its container is lost.
  void Resume(bool was_live);

  // There has been a start of that number, whatever its row says: the next one's is higher.
  void NoteGeneration(uint64_t generation);

  // The containers that are this instance's: of its start, and those that are being removed.
  std::vector<std::string> ContainerIds() const;

  // Whether a start of it has to wait, for another of its class to stop or for room on the disk.
  Status CheckRoom() const;

  // Somebody asks for it by name: what failed before no longer counts.
  void ForgiveFailures();

  // Starts it if it is stopped, and returns once it is healthy (a job: once its process was
  // started). `cause`, here and below: who asks, for the record.
  awaitable<Status> EnsureHealthy(MonoTime deadline, std::string cause);
  // The same for a request, which is let in before anything else can happen to the instance. In a
  // crash loop it fails until the next start is due (`start_failed`, with a time to try again).
  awaitable<StatusOr<Passage>> Admit(MonoTime deadline, std::string cause, size_t bytes);
  // The same for what runs inside of it; a job that runs is enough.
  awaitable<StatusOr<Visit>> AdmitVisit(MonoTime deadline, std::string cause);
  // FAILED_PRECONDITION (`manual_start`) if only `ctr start` may start this instance, which is
  // stopped.
  Status CheckMayStart() const;
  // The same for what would wake it to run inside of it; also if it is a job that has ended, which
  // must not be run again for that.
  Status CheckMayVisit() const;
  // The start that comes next is the last one unless somebody asks: its restart policy is `never`.
  void LetEnd() { next_ends_ = true; }
  // Asks for a start without waiting for it.
  void RequestStart(std::string cause);

  // Asks for a stop; a stopped instance stays as it is.
  void RequestStop(StopRequest request);
  // Kills it, if it still runs as that container, because it fills the disk; `message` says how
  // much. Its restart policy takes that for a failure. It starts again when there is room. One that
  // is just being stopped is killed at once, and that is all. False: there is nothing to kill.
  bool StopForDisk(const std::string& container_id, std::string message);
  void RequestDestroy(std::string cause);

  // Returns once `reached` holds, or DEADLINE_EXCEEDED. It is asked after every change of state.
  awaitable<Status> AwaitState(std::function<bool(const Instance&)> reached, MonoTime deadline);

  // Renews the idle timer. FAILED_PRECONDITION if it does not run.
  Status Renew(std::string cause);

  void Nudge();

  // Another agent takes over: nobody is let in any more, or again.
  void CloseGate();
  void ReopenGate();
  // It has taken over, and starts what is waited for.
  void TellHandedOver(const Status& status) { FailWaiters(status); }

 private:
  friend class Visit;

  // One coroutine that waits for a change. On its stack; in waiters_ while it lives.
  struct Waiter {
    std::unique_ptr<Alarm> alarm;
    bool wants_start = false;
    std::string cause;              // of that wish
    bool is_request = false;        // which a crash loop refuses
    size_t bytes = 0;               // that wait with it
    std::optional<Status> failure;  // of the start that it wanted
  };
  class Waiting;

  policy::LifecycleView View();
  bool StartWanted() const;
  bool MayPerform(policy::Step step) const;
  bool Idle() const { return !slot_->busy() && visits_ == 0; }
  policy::IdleView ViewIdle() const;
  std::string StartCause() const;
  void LookAtCpu();
  bool RequiredPortsListen();
  bool PassesCheck() const;
  bool IsCheckKnown() const;

  awaitable<void> Run(std::shared_ptr<Instance> self);
  awaitable<void> Perform(policy::Step step);
  awaitable<void> Start();
  // Nothing if it was stopped while it waited for its turn.
  awaitable<std::optional<Status>> StartInTurn();
  // The same, with a pull in between if that is what it takes. It does not count as its start's
  // time.
  awaitable<std::optional<Status>> StartWithImage();
  awaitable<void> UntilUnwanted();
  // `class_record`: what the start was begun with.
  awaitable<Status> StartContainer(ClassRecord class_record);
  awaitable<Status> StartProcess();
  awaitable<void> UntilListening();
  ContainerSpec SpecOf(const ClassRecord& class_record, std::string image) const;
  void ProcessStarted();
  awaitable<void> KeepChecking(std::string container_id);
  void NotePassing();
  void RecordPassing();
  // Where this start is reached.
  Endpoint CurrentEndpoint() const;
  void MarkHealthy();
  void CountWake();
  awaitable<void> NoteWoken(std::shared_ptr<Instance> self);
  awaitable<void> FailStart(Status status, StopReason reason = StopReason::kStartFailed);
  awaitable<void> Reap();
  // Plans the next start of one that ended by itself.
  void PlanRestart(bool failed);
  awaitable<void> Sleep();
  awaitable<bool> MaySleep();
  awaitable<void> StopAsRequested();
  awaitable<void> StopContainer(StopRequest request, StopReason reason);
  awaitable<void> AwaitDrained(MonoTime deadline);
  awaitable<void> AwaitExit(MonoTime deadline);
  bool IsHurried() const { return exit_ || destroy_requested_ || !hurry_.empty(); }
  awaitable<void> Kill();
  awaitable<void> Forget();
  awaitable<Status> RemoveContainer();
  void RemoveContainerLater();
  awaitable<void> RemoveUntilGone(std::string container_id);
  awaitable<void> NoteObserved();
  awaitable<void> WatchExit(std::string container_id);

  void SetState(State to);
  void SetStopped(StopReason reason, std::string message);
  void FailWaiters(const Status& status);
  void RingAll();
  void Record(std::string type, std::string message = "", std::string cause = "");
  HookCall HookOf(const std::vector<std::string>& command, std::string_view name) const;
  void CallHook(const std::vector<std::string>& command, std::string_view name);
  Status StartTimeoutError() const;
  Status ExitedEarlyError() const;

  InstanceServices& services_;
  const std::shared_ptr<ClassState> class_;
  const std::shared_ptr<Slot> slot_;
  const std::unique_ptr<Alarm> alarm_;

  Semaphore edits_;
  InstanceRecord record_;
  uint64_t newest_generation_ = 0;  // that an earlier agent's containers tell of
  bool committed_ = true;
  bool forgotten_ = false;
  uint64_t stops_ = 0;
  bool converging_ = false;
  bool start_requested_ = false;
  bool destroy_requested_ = false;
  std::string start_cause_;  // of start_requested_
  std::string destroy_cause_;
  std::optional<StopRequest> stop_request_;
  std::string hurry_;  // why a stop is waited for no longer
  std::list<Waiter*> waiters_;
  size_t held_bytes_ = 0;  // of all of them
  int visits_ = 0;

  // After a start that failed or an end by itself: requests are refused until then in a crash loop,
  // and if restart_due_ it is started again then.
  std::optional<MonoTime> backoff_until_;
  bool restart_due_ = false;
  bool next_ends_ = false;  // of the start that comes next, and of this one: see LetEnd
  bool ends_ = false;
  // Containers that are being removed, and whether the next start has to wait for that: while they
  // may live, or hold a kept disk.
  std::map<std::string, bool> removing_;
  Semaphore hook_turn_;  // the hooks of an instance run in their order

  // Of the current start.
  std::shared_ptr<const ClassConfig> running_config_;
  bool begun_ = false;  // a start, with that
  std::optional<Container> container_;
  bool adopted_ = false;                   // its start was an earlier agent's
  bool start_over_ = false;                // and that agent saw it healthy
  std::optional<WallTime> healthy_since_;  // as that agent saw it
  ListenFunction probe_;                   // null: there is nothing to look at
  policy::Readiness readiness_;            // as its check has said, if there is one
  std::string check_told_;                 // why it did not pass, the last time it did not
  std::optional<ContainerExit> exit_;
  bool exit_lost_ = false;                  // exit_ is a guess: the process may live
  std::vector<ListeningSocket> last_seen_;  // to explain a start that timed out
  MonoTime wanted_at_;                      // the phases of its start
  MonoTime permitted_at_;
  MonoTime created_at_;
  MonoTime started_at_;
  MonoTime healthy_at_;
  MonoTime start_deadline_;
  std::optional<MonoTime> cpu_looked_at_;  // with busy_cpu: when cpu_time_ was read
  Duration cpu_time_ = Duration::zero();
};

}  // namespace ctr
