#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "agent/base/clock.h"
#include "agent/base/disk_space.h"
#include "agent/base/error.h"
#include "agent/base/semaphore.h"
#include "agent/control/event_log.h"
#include "agent/store/store.h"

namespace ctr {

// What DiskGuard does to the file system; each blocks.
struct DiskFunctions {
  std::function<StatusOr<DiskSpace>()> look;
  std::function<Status(int64_t bytes)> reserve;
  std::function<Status()> release;
  std::function<bool()> is_reserved;
};
// With the reserve in `folder`/reserve.
DiskFunctions DiskOf(const std::string& folder);

// Before anything is opened: gives the reserve up if the disk is full. Blocks.
void MakeRoom(const DiskFunctions& functions);

// Keeps some room of the data directory's disk for wakes: a file that is given up when the disk is
// full, and made again when there is room. While it is full, what would change the state for good
// is refused. Owned by the supervisor; home: the control loop; the others outlive it.
class DiskGuard {
 public:
  // Without functions it guards nothing.
  DiskGuard(asio::any_io_executor executor, asio::any_io_executor work, Clock& clock,
            EventLog& events, DiskFunctions functions, std::string folder)
      : work_(std::move(work)),
        clock_(clock),
        events_(events),
        functions_(std::move(functions)),
        folder_(std::move(folder)),
        turn_(executor, clock, 1) {}
  DiskGuard(const DiskGuard&) = delete;

  // Looks at the disk now.
  awaitable<void> Look();
  // Looks at it every few seconds; returns only by cancellation.
  awaitable<void> KeepLooking();

  // A write was refused for want of room: gives the reserve up. Returns once there is room again as
  // far as that goes.
  awaitable<void> NoteRefused();

  // RESOURCE_EXHAUSTED (`disk_full`) while the disk is full, as far as a look now tells.
  awaitable<Status> CheckMayChange();
  bool full() const { return full_; }
  // How much of what is free on that file system is free only because the reserve was given up.
  int64_t GivenUpOn(const DiskSpace& disk) const;

 private:
  const asio::any_io_executor work_;
  Clock& clock_;
  EventLog& events_;
  const DiskFunctions functions_;
  const std::string folder_;

  Semaphore turn_;  // of a look
  bool full_ = false;
  DiskSpace space_;  // as it was at the last look
  int64_t given_up_ = 0;
  bool refused_ = false;
  bool first_ = true;
};

// Makes the changes durable, if need be with the room that the reserve gives free.
awaitable<Status> CommitWithReserve(Store& store, DiskGuard& disk, std::vector<Change> changes);

// Whether it failed because a disk is full.
bool IsDiskFull(const Status& status);

}  // namespace ctr
