#pragma once

#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <unordered_set>
#include <vector>

#include "agent/base/semaphore.h"
#include "agent/control/addresses.h"
#include "agent/control/class_meter.h"
#include "agent/control/class_pool.h"
#include "agent/control/cpu_ranks.h"
#include "agent/control/disk_floor.h"
#include "agent/control/disk_guard.h"
#include "agent/control/instance.h"
#include "agent/control/routes.h"
#include "agent/proxy/waker.h"
#include "agent/runtime/platform.h"

namespace ctr {

struct SupervisorOptions {
  Ipv4Range instance_range;
  Ipv4Range class_range;
  std::string log_dir;
  // Throughput of whole lifecycles peaks at about four at a time; at eight a cold start takes twice
  // as long.
  int parallel_starts = 4;
  Passage::NowFunction now;
  std::function<ListenFunction(const Container&)> probe = ProbeByNetlink;
  CheckFunction check;
  HookFunction run_hook;
  int parallel_hooks = 8;
  Duration reconcile_interval = std::chrono::minutes(10);
  DiskFunctions disk;    // of the data directory; none: its room is not looked at
  std::string data_dir;  // to name it
  std::optional<int64_t> max_image_bytes = {};  // of all that images take on the disk
  DiskFloorOptions disk_floor = {};
};

// What the supervisor works with; all of it outlives the supervisor.
struct SupervisorServices {
  asio::any_io_executor executor;  // control's
  asio::any_io_executor work;
  Clock& clock;
  Runtime& runtime;
  Store& store;
  Cluster& cluster;
};

// What is done in between by an agent that takes over.
struct RecoverySteps {
  // All is read, and nothing is changed yet: may it be?
  std::function<awaitable<Status>()> may_change = {};
  // Every instance is there, and none of them has done anything.
  std::function<void()> loaded = {};
};

enum class ApplyResult { kCreated, kConfigured, kUnchanged };

struct AppliedClass {
  ApplyResult result = ApplyResult::kUnchanged;
  std::string name = {};
  std::string note =
      {};  // what it does to what there is and may surprise; "" if there is nothing to say
};

// What a call gives an instance for this and later starts.
struct InstanceSettings {
  std::map<std::string, std::string> env = {};
  std::vector<std::string> entrypoint = {};  // empty: not given
  // Of `ctr run`, which always gives it: no words are the image's own command.
  std::optional<std::vector<std::string>> command = {};
};

// Owns every class and instance of this host, and is the one that changes them. Home: the control
// loop; EnsureAwake and Refused alone may be called from a data loop. Calls that change something
// return once it is on disk. `cause` says for the record who asked: "ctr stop by root".
class Supervisor final : public Waker {
 public:
  using InstancePtr = std::shared_ptr<Instance>;

  Supervisor(SupervisorServices services, Routes& routes, SupervisorOptions options);

  // Reads the state, takes over what runs, removes what nobody knows, and publishes the routes.
  // Once, before all else.
  awaitable<Status> Recover(RecoverySteps steps = {});

  // For an agent that takes over: whether an instance is just coming up or going down, which is
  // best waited for.
  bool HasAny(State state) const;
  // Begins no step of any instance from now on, and lets no request in; what is in flight is.
  void Hold();
  // It gave up.
  void Release();
  // It has taken over: who waits here for an instance to start is told so.
  void TellHandedOver(const Status& status);

  // `source` is a class file; `file_name` is for messages.
  awaitable<StatusOr<AppliedClass>> ApplyClass(std::string source, std::string file_name,
                                               std::string cause);
  // Changes [autoscale] of a class as it was applied: see WithAutoscale.
  awaitable<StatusOr<AppliedClass>> SetAutoscale(std::string class_name, bool on,
                                                 std::map<std::string, std::string> settings,
                                                 std::string cause);
  awaitable<Status> RemoveClass(std::string name, bool force, MonoTime deadline, std::string cause);
  StatusOr<std::shared_ptr<ClassState>> FindClass(const std::string& name) const;
  const std::map<std::string, std::shared_ptr<ClassState>>& classes() const { return classes_; }
  const std::map<InstanceName, InstancePtr>& instances() const { return instances_; }

  // The name with an empty class resolved to the only one there is. INVALID_ARGUMENT that lists
  // them otherwise.
  StatusOr<std::string> ResolveClass(const std::string& class_name) const;
  StatusOr<InstancePtr> Find(InstanceName name) const;

  // Creates it if it is unknown, and keeps the settings. FAILED_PRECONDITION if it runs with other
  // settings.
  awaitable<StatusOr<InstancePtr>> GetOrCreate(InstanceName name, InstanceSettings settings,
                                               MonoTime deadline, std::string cause);
  // Records that it is to run; then starts it, and waits until it is healthy unless `wait` is
  // false.
  awaitable<Status> Start(InstancePtr instance, bool wait, MonoTime deadline, std::string cause);
  awaitable<Status> Stop(InstancePtr instance, StopRequest request, bool wait, MonoTime deadline,
                         std::string cause);
  awaitable<Status> Restart(InstancePtr instance, bool wait, MonoTime deadline, std::string cause);
  awaitable<Status> Destroy(InstancePtr instance, MonoTime deadline, std::string cause);
  // For what runs inside of an instance, exec or copy: wakes it, and keeps it awake as long as
  // the Visit lives. Does not create it.
  awaitable<StatusOr<Visit>> Enter(InstancePtr instance, MonoTime deadline, std::string cause);
  // Picks one of instance-0 … instance-N-1 as the ingress would (`n` 0: as the class says), and
  // wakes it.
  awaitable<StatusOr<InstancePtr>> Route(std::string class_name, int n, MonoTime deadline,
                                         std::string cause);
  // The normalized references of every class's image, with the classes' names.
  std::multimap<std::string, std::string> ImagesInUse() const;
  // As Runtime's; keeps the store within its limit. A pull may be cancelled.
  awaitable<StatusOr<PulledImage>> PullImage(PullRequest request, Runtime::ReportPull report);
  awaitable<StatusOr<std::vector<std::string>>> ImportImages(UniqueFd archive, std::string name);
  // Removes every image that no class uses.
  awaitable<StatusOr<PrunedImages>> PruneImages();
  // FAILED_PRECONDITION (in_use) if a class uses it.
  awaitable<Status> RemoveImage(std::string reference);

  // RESOURCE_EXHAUSTED (disk_full) while the data directory's disk is so full that changes are
  // refused.
  awaitable<Status> CheckRoom() { co_return co_await disk_.CheckMayChange(); }

  EventLog& events() { return events_; }
  const ClassMeter& meter() const { return meter_; }
  CpuRanks& ranks() { return ranks_; }
  // Of a class whose policy is `nearest`; else null.
  std::shared_ptr<ClassPool> FindPool(const std::string& class_name) const;

  // Waker:
  awaitable<StatusOr<Passage>> EnsureAwake(InstanceName name, WakeOrigin origin, MonoTime deadline,
                                           std::string cause, size_t bytes) override;
  void Refused(Refusal refusal) override;

 private:
  awaitable<StatusOr<Passage>> Admit(InstanceName name, WakeOrigin origin, MonoTime deadline,
                                     std::string cause, size_t bytes);
  awaitable<StatusOr<InstancePtr>> Create(InstanceName name, InstanceSettings settings,
                                          std::string cause);
  awaitable<Status> UpdateSettings(InstancePtr instance, InstanceSettings settings);
  // Returns once it is on disk that it is to be destroyed.
  awaitable<Status> BeginDestroy(InstancePtr instance, std::string cause);
  // One of those that routing owns, at random.
  std::string PickRoutedId(const std::string& class_name, int n);
  awaitable<Status> SetDesired(InstancePtr instance, Desired desired);
  // The instance of that name that is not just being destroyed; null if there is none.
  awaitable<StatusOr<InstancePtr>> FindSettled(InstanceName name, MonoTime deadline);
  awaitable<void> Rebuild(StoredState& state, const std::vector<Container>& containers,
                          const std::vector<KeptDisk>& disks);
  bool Knows(const std::string& container_id) const;
  awaitable<void> KeepReconciled();
  awaitable<void> Reconcile();
  // What makes something new is refused while the disk is full; what ends or starts what there is
  // may use the reserve.
  enum class Use { kRoom, kReserve };
  // Has the class's image here, and returns the digest that the class is to run, "" for whatever
  // has the name.
  awaitable<StatusOr<std::string>> ProvideImage(ClassConfig config);
  awaitable<StatusOr<std::string>> SettleImage(ClassConfig config);
  awaitable<Status> EnsureImage(std::string image);
  // Notes with each class what its image's name means here by now.
  awaitable<void> LookAtImages();
  awaitable<Status> MakeImageRoom(int64_t bytes);
  Status CheckMayMove(const std::string& reference, const Platform& platform) const;
  std::string ImageUser(const std::string& reference) const;
  std::set<std::string> ImagesToKeep() const;
  std::shared_ptr<void> WantImage(const std::string& reference);
  void NotePruned(const PrunedImages& pruned);
  std::string NoteOfOldImages(const std::string& class_name) const;
  awaitable<std::string> NoteOfDisks(std::string class_name, Disk disk);
  awaitable<Status> Commit(std::vector<Change> changes, Use use);
  // `containers`: the newest start of an instance before the others, which are remains.
  void Adopt(std::vector<Container> containers, const std::map<InstanceName, Observed>& last_seen);
  Status Load(StoredState state, std::map<InstanceName, Observed>& last_seen);
  void NoteUnread(const ClassRecord& record, const Status& why);
  StatusOr<uint32_t> TakeInstanceAddress();
  StatusOr<uint32_t> TakeClassAddress();
  void Forgotten(const InstanceName& name);
  void Publish();
  // Each class whose policy is `nearest` has a pool, and no other.
  void SettlePools();

  const SupervisorOptions options_;
  Clock& clock_;
  Runtime& runtime_;
  Store& store_;
  asio::any_io_executor executor_;
  Routes& routes_;
  Semaphore start_queue_;
  Semaphore hook_queue_;
  bool held_ = false;
  EventLog events_;
  DiskGuard disk_;
  ClassMeter meter_;
  DiskFloor floor_;
  CpuRanks ranks_;
  InstanceServices services_;
  PoolServices pool_services_;
  std::map<std::string, std::shared_ptr<ClassPool>> pools_;

  Semaphore class_edits_;  // one apply or removal at a time
  std::map<std::string, std::shared_ptr<ClassState>> classes_;
  std::map<InstanceName, InstancePtr> instances_;
  // What is kept of these is not understood: the classes' addresses, and their instances'.
  std::map<std::string, uint32_t> unread_classes_;
  std::unordered_set<uint32_t> unread_addresses_;
  std::multiset<std::string> images_wanted_;  // that are not to be pruned
  AddressCursors cursors_;
  std::mt19937_64 random_{std::random_device()()};
};

}  // namespace ctr
