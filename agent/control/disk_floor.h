#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "agent/control/disk_guard.h"
#include "agent/control/event_log.h"
#include "agent/control/instance.h"
#include "agent/policy/disk_floor.h"

namespace ctr {

struct DiskFloorOptions {
  std::optional<int64_t> min_free_bytes;  // see policy::FloorOf
  // Where the newest measurement is left for a later agent, which would not know otherwise who
  // filled the disk while there was none; "": nowhere.
  std::string memory_file;
};

// What it works with; all of it outlives it.
struct DiskFloorServices {
  asio::any_io_executor executor;  // control's
  asio::any_io_executor work;
  Clock& clock;
  Runtime& runtime;
  EventLog& events;
  const DiskGuard& guard;  // what its reserve gives free counts as taken
  const bool& held;        // another agent has taken over, or is about to
  const std::map<InstanceName, std::shared_ptr<Instance>>& instances;
};

// Keeps some of the disk that instances write to free: below that floor it stops the one that
// filled it, as the kernel does for memory. Home: the control loop.
class DiskFloor {
 public:
  DiskFloor(const DiskFloorServices& services, DiskFloorOptions options)
      : services_(services),
        options_(std::move(options)),
        alarm_(services.clock.MakeAlarm(services.executor)) {}
  DiskFloor(const DiskFloor&) = delete;

  // Never returns; may be cancelled.
  awaitable<void> Run();

  // It has another state: what it keeps is looked at soon, if that is not known.
  void NoteChange(const Instance& instance);

  // Below the floor at the last look, and before the first. Its address stays.
  const bool& low() const { return low_; }

 private:
  struct LiveOne {
    std::shared_ptr<Instance> instance;
    std::string container_id;
  };
  using Live = std::map<std::string, LiveOne>;  // by what they keep: policy::DiskSample

  awaitable<StatusOr<DiskSpace>> Space();
  awaitable<void> Recall(const DiskSpace& space);
  awaitable<void> Remember();
  awaitable<Duration> Look();
  void LookLateIn(Duration pause);
  awaitable<std::map<std::string, DiskAmount>> Measure(const Live& live);
  awaitable<void> NoteKeptDisks(const Live& live);
  void Stop(const LiveOne& one, const policy::DiskGrower& grower, const policy::DiskSample& sample,
            const DiskSpace& floor);
  void NoteLow(bool low, const DiskSpace& space, const DiskSpace& floor);
  Live LiveInstances() const;

  const DiskFloorServices services_;
  const DiskFloorOptions options_;
  const std::unique_ptr<Alarm> alarm_;
  bool low_ = true;
  bool told_low_ = false;
  bool recalled_ = false;                     // what an earlier agent measured, if anything
  std::optional<policy::DiskSample> base_;    // the newest
  std::optional<policy::DiskSample> anchor_;  // the newest that was made with room, at rest
  MonoTime late_at_;                          // compare with the anchor, if it is low then
  Duration late_pause_{0};
};

}  // namespace ctr
