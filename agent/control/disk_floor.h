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

// Keeps some of the disk that instances write to free: below that floor it stops the one that
// filled it, as the kernel does for memory. What it is given outlives it. Home: the control loop.
class DiskFloor {
 public:
  // `guard`: what its reserve gives free counts as taken.
  DiskFloor(asio::any_io_executor work, Clock& clock, Runtime& runtime, EventLog& events,
            const std::map<InstanceName, std::shared_ptr<Instance>>& instances,
            const DiskGuard& guard, DiskFloorOptions options)
      : work_(std::move(work)),
        clock_(clock),
        runtime_(runtime),
        events_(events),
        instances_(instances),
        guard_(guard),
        options_(std::move(options)) {}
  DiskFloor(const DiskFloor&) = delete;

  // Never returns; may be cancelled.
  awaitable<void> Run();

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
  awaitable<std::map<std::string, DiskAmount>> Measure(const Live& live);
  void KeepOthers(policy::DiskSample& sample) const;
  awaitable<void> NoteKeptDisks(const Live& live);
  void Stop(const LiveOne& one, const policy::DiskGrower& grower, const DiskSpace& floor);
  void NoteLow(bool low, const DiskSpace& space, const DiskSpace& floor);
  Live LiveInstances() const;

  const asio::any_io_executor work_;
  Clock& clock_;
  Runtime& runtime_;
  EventLog& events_;
  const std::map<InstanceName, std::shared_ptr<Instance>>& instances_;
  const DiskGuard& guard_;
  const DiskFloorOptions options_;
  bool low_ = true;
  bool told_low_ = false;
  bool recalled_ = false;                     // what an earlier agent measured, if anything
  std::optional<policy::DiskSample> base_;    // the newest
  std::optional<policy::DiskSample> anchor_;  // the newest that was made with room, at rest
  MonoTime late_at_;                          // compare with the anchor, if it is low then
  Duration late_pause_{0};
};

}  // namespace ctr
