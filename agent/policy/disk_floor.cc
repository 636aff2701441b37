#include "agent/policy/disk_floor.h"

#include <algorithm>

namespace ctr::policy {
namespace {

constexpr int64_t kMostFloor = int64_t{1} << 30;
constexpr int kNear = 4;  // times the floor
constexpr Duration kStale = std::chrono::minutes(1);
constexpr double kTelling = 1.0 / 32;  // of the floor: enough to tell who it was
// Less tells nothing, since a start alone takes some; unless the floor itself is that small.
constexpr int64_t kLeastBytes = int64_t{1} << 20;
constexpr int64_t kLeastFiles = 1000;

// How much of it went since, as parts of the floor; of bytes or of files, whichever went further.
double Fallen(const DiskSpace& before, const DiskSpace& now, const DiskSpace& floor) {
  const auto part = [](int64_t from, int64_t to, int64_t of) {
    return of > 0 ? static_cast<double>(from - to) / static_cast<double>(of) : 0;
  };
  return std::max(part(before.free_bytes, now.free_bytes, floor.free_bytes),
                  part(before.free_files, now.free_files, floor.free_files));
}

// Of what is short, bytes or files.
int64_t Went(const DiskSpace& before, const DiskSpace& now, const DiskSpace& floor) {
  return FilesAreShort(now, floor) ? before.free_files - now.free_files
                                   : before.free_bytes - now.free_bytes;
}

// Whether enough of it went to tell who took it.
bool IsTelling(const DiskSpace& before, const DiskSpace& now, const DiskSpace& floor) {
  const bool by_files = FilesAreShort(now, floor);
  const int64_t least = by_files ? kLeastFiles : kLeastBytes;
  const int64_t kept = by_files ? floor.free_files : floor.free_bytes;
  const auto telling = static_cast<int64_t>(static_cast<double>(kept) * kTelling);
  return Went(before, now, floor) >= std::max(telling, std::min(least, kept / 4));
}

}  // namespace

bool FilesAreShort(const DiskSpace& space, const DiskSpace& floor) {
  return space.total_files > 0 && space.free_files < floor.free_files;
}

bool FellMeanwhile(const DiskSpace& before, const DiskSpace& after, const DiskSpace& floor) {
  return Fallen(before, after, floor) >= kTelling;
}

DiskSpace FloorOf(const DiskSpace& space, std::optional<int64_t> min_free) {
  DiskSpace floor;
  floor.free_bytes = min_free.value_or(std::min(kMostFloor, space.total_bytes / 20));
  floor.free_files = floor.free_bytes > 0 ? space.total_files / 100 : 0;
  return floor;
}

DiskFloorPlan DecideDiskFloor(const DiskSpace& space, const DiskSpace& floor,
                              const std::optional<DiskSample>& base, MonoTime now) {
  DiskFloorPlan plan;
  const DiskSpace mark = {.free_bytes = kNear * floor.free_bytes,
                          .free_files = kNear * floor.free_files};
  plan.low = space.free_bytes < floor.free_bytes || FilesAreShort(space, floor);
  plan.near = space.free_bytes < mark.free_bytes || FilesAreShort(space, mark);
  if (!base) {
    plan.measure = floor.free_bytes > 0;
    return plan;
  }
  const double fallen = Fallen(base->space, space, floor);
  // Room that somebody made is no part of what is filled from here on.
  const double risen = Fallen(space, base->space, floor);
  if (risen >= 1.0 / 4 && fallen < kTelling) {
    plan.measure = plan.near || risen >= 1;
    return plan;
  }
  if (!plan.near) {
    // A disk may be filled between two looks.
    plan.measure = fallen >= 1;
  } else if (plan.low) {
    // Too little to tell who it was; there is still almost all of the floor.
    plan.choose = plan.measure = IsTelling(base->space, space, floor);
  } else {
    // What grew long ago is not what fills the disk now.
    plan.measure = fallen >= 1.0 / 4 || (fallen >= 1.0 / 256 && now - base->at > kStale);
  }
  return plan;
}

std::optional<DiskGrower> PickDiskGrower(const DiskSample& before, const DiskSample& after,
                                         const DiskSpace& floor) {
  if (!IsTelling(before.space, after.space, floor)) return std::nullopt;
  const bool by_files = FilesAreShort(after.space, floor);
  const auto amount = [&](const DiskAmount& it) { return by_files ? it.files : it.bytes; };
  std::optional<DiskGrower> grower;
  std::optional<DiskGrower> uncounted;
  int64_t most = 0;
  int64_t largest = -1;
  int64_t together = 0;
  for (const auto& [id, now] : after.containers) {
    const auto earlier = before.containers.find(id);
    const DiskAmount then = earlier == before.containers.end() ? DiskAmount() : earlier->second;
    const DiskGrower grown{id, now.bytes - then.bytes, now.files - then.files};
    const int64_t growth = amount(now) - amount(then);
    together += std::max<int64_t>(growth, 0);
    if (growth > most) {
      most = growth;
      grower = grown;
    }
    if (!now.whole && amount(now) > largest) {
      largest = amount(now);
      uncounted = grown;
    }
  }
  const int64_t went = Went(before.space, after.space, floor);
  if (uncounted && (!grower || went - together > most)) {
    uncounted->is_counted = false;
    return uncounted;
  }
  return together >= went / 4 ? grower : std::nullopt;
}

}  // namespace ctr::policy
