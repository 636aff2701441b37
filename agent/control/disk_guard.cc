#include "agent/control/disk_guard.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "agent/base/disk_room.h"
#include "agent/base/fd.h"
#include "agent/base/work.h"
#include "agent/policy/disk.h"
#include "spdlog/spdlog.h"

namespace ctr {
namespace {

constexpr Duration kGuardInterval = std::chrono::seconds(5);

Status Reserve(const std::string& path, int64_t bytes) {
  UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  if (!file.valid()) return ErrnoError(errno, "cannot make " + path);
  // Not ftruncate: the blocks have to be there. Not posix_fallocate: glibc would write zeros.
  if (::fallocate(file.get(), 0, 0, bytes) == 0) return absl::OkStatus();
  const int error = errno;
  ::unlink(path.c_str());
  return ErrnoError(error, "cannot reserve room in " + path);
}

Status Release(const std::string& path) {
  if (::unlink(path.c_str()) == 0 || errno == ENOENT) return absl::OkStatus();
  return ErrnoError(errno, "cannot give up " + path);
}

}  // namespace

DiskFunctions DiskOf(const std::string& folder) {
  const std::string path = folder + "/reserve";
  DiskFunctions functions;
  functions.look = [folder] { return SpaceAt(folder); };
  functions.reserve = [path](int64_t bytes) { return Reserve(path, bytes); };
  functions.release = [path] { return Release(path); };
  functions.is_reserved = [path] { return ::access(path.c_str(), F_OK) == 0; };
  return functions;
}

void MakeRoom(const DiskFunctions& functions) {
  StatusOr<DiskSpace> space = functions.look();
  if (!space.ok()) return;
  const policy::DiskPlan plan = policy::DecideDisk(
      {space->total_bytes, space->free_bytes, functions.is_reserved(), false, false});
  if (plan.step == policy::DiskPlan::Step::kRelease) functions.release().IgnoreError();
}

awaitable<void> DiskGuard::Look() {
  if (!functions_.look) co_return;
  Semaphore::Permit permit = co_await turn_.Acquire();
  struct Done {
    Status status;
    policy::DiskPlan plan;
    DiskSpace space = {};
  };
  const bool refused = std::exchange(refused_, false);
  const bool first = std::exchange(first_, false);
  const Done done =
      co_await OnWork(work_, [functions = functions_, full = full_, refused, first]() -> Done {
        StatusOr<DiskSpace> space = functions.look();
        if (!space.ok()) return {space.status(), {.full = full}};
        const policy::DiskPlan plan = policy::DecideDisk(
            {space->total_bytes, space->free_bytes, functions.is_reserved(), full, refused, first});
        Status status;
        if (plan.step == policy::DiskPlan::Step::kRelease) status = functions.release();
        if (plan.step == policy::DiskPlan::Step::kReserve) {
          status = functions.reserve(policy::ReserveBytes(space->total_bytes));
        }
        return {status, plan, *space};
      });
  if (!done.status.ok()) spdlog::warn("{}", std::string(done.status.message()));
  if (done.space.total_bytes > 0) {
    space_ = done.space;
    given_up_ = done.plan.given_up_bytes;
  }
  if (full_ == done.plan.full) co_return;
  full_ = done.plan.full;
  if (full_) {
    spdlog::error("the disk of {} is full; changes are refused until there is room", folder_);
    events_.Record(
        {.type = event::kDiskFull,
         .message = absl::StrCat("the disk of ", folder_, " is full (", done.space.free_bytes >> 20,
                                 " MiB free): changes are refused, "
                                 "instances go on and wake")});
  } else {
    spdlog::info("there is room again on the disk of {}", folder_);
    events_.Record({.type = event::kDiskRoom,
                    .message = absl::StrCat("there is room again on the disk of ", folder_)});
  }
}

awaitable<void> DiskGuard::KeepLooking() {
  for (;;) {
    co_await clock_.SleepUntil(clock_.Now() + kGuardInterval);
    co_await Look();
  }
}

awaitable<void> DiskGuard::NoteRefused() {
  refused_ = true;
  co_await Look();
}

awaitable<Status> DiskGuard::CheckMayChange() {
  // Somebody may have made room since.
  if (full_) co_await Look();
  if (!full_) co_return absl::OkStatus();
  co_return Error(
      absl::StatusCode::kResourceExhausted, code::kDiskFull,
      absl::StrCat("the disk of ", folder_,
                   " is full: nothing new is taken until there is room; make some there"));
}

// A file system is known by its size: its path need not be.
int64_t DiskGuard::GivenUpOn(const DiskSpace& disk) const {
  const bool is_same =
      disk.total_bytes == space_.total_bytes && disk.total_files == space_.total_files;
  return is_same ? given_up_ : 0;
}

awaitable<Status> CommitWithReserve(Store& store, DiskGuard& disk, std::vector<Change> changes) {
  Status status = co_await store.Commit(changes);
  if (!IsDiskFull(status)) co_return status;
  co_await disk.NoteRefused();
  co_return co_await store.Commit(std::move(changes));
}

bool IsDiskFull(const Status& status) {
  return ErrorCodeOf(status) == code::kDiskFull ||
         (absl::IsResourceExhausted(status) && absl::StrContains(status.message(), "disk full")) ||
         absl::StrContains(absl::AsciiStrToLower(status.message()), "no space left on device");
}

}  // namespace ctr
