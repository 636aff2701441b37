#include "agent/policy/disk_floor.h"

#include <algorithm>

namespace ctr::policy {
namespace {

constexpr int64_t kMostFloor = int64_t{1} << 30;
constexpr int kNear = 4;  // times the floor
constexpr Duration kStale = std::chrono::minutes(1);
constexpr double kTelling = 1.0 / 32;  // of the floor: enough to tell who it was

// What can run short.
struct Resource {
  int64_t DiskSpace::* free;
  int64_t DiskAmount::* taken;
  // Less tells nothing, unless the floor itself is that small.
  int64_t least;
  // What a start alone may take.
  int64_t of_a_start;
};
constexpr Resource kBytes = {&DiskSpace::free_bytes, &DiskAmount::bytes, int64_t{1} << 20,
                             int64_t{256} << 10};
constexpr Resource kFiles = {&DiskSpace::free_files, &DiskAmount::files, 1000, 20};

bool IsShort(const Resource& resource, const DiskSpace& space, const DiskSpace& floor) {
  return floor.*resource.free > 0 && space.*resource.free < floor.*resource.free;
}

// How much of it went since, as parts of the floor; of bytes or of files, whichever went further.
double Fallen(const DiskSpace& before, const DiskSpace& now, const DiskSpace& floor) {
  const auto part = [](int64_t from, int64_t to, int64_t of) {
    return of > 0 ? static_cast<double>(from - to) / static_cast<double>(of) : 0;
  };
  return std::max(part(before.free_bytes, now.free_bytes, floor.free_bytes),
                  part(before.free_files, now.free_files, floor.free_files));
}

// Whether it is short, and enough of it went to tell who took it.
bool IsTelling(const Resource& resource, const DiskSpace& before, const DiskSpace& now,
               const DiskSpace& floor) {
  const int64_t kept = floor.*resource.free;
  const auto telling = static_cast<int64_t>(static_cast<double>(kept) * kTelling);
  const int64_t went = before.*resource.free - now.*resource.free;
  return IsShort(resource, now, floor) &&
         went >= std::max(telling, std::min(resource.least, kept / 4));
}

std::optional<DiskGrower> PickBy(const Resource& resource, const DiskSample& before,
                                 const DiskSample& after) {
  std::optional<DiskGrower> grower;
  std::optional<DiskGrower> uncounted;
  int64_t most = 0;
  int64_t largest = -1;
  int64_t together = 0;
  for (const auto& [id, now] : after.containers) {
    const auto earlier = before.containers.find(id);
    const bool is_new = earlier == before.containers.end();
    const DiskAmount then = is_new ? DiskAmount() : earlier->second;
    const DiskGrower grown{id, now.bytes - then.bytes, now.files - then.files,
                           resource.free == kFiles.free};
    const int64_t growth =
        now.*resource.taken - then.*resource.taken - (is_new ? resource.of_a_start : 0);
    together += std::max<int64_t>(growth, 0);
    if (growth > most) {
      most = growth;
      grower = grown;
    }
    if (!now.whole && now.*resource.taken > largest) {
      largest = now.*resource.taken;
      uncounted = grown;
    }
  }
  const int64_t went = before.space.*resource.free - after.space.*resource.free;
  if (uncounted && (!grower || went - together > most)) {
    uncounted->is_counted = false;
    return uncounted;
  }
  return together >= went / 4 ? grower : std::nullopt;
}

}  // namespace

bool BytesAreShort(const DiskSpace& space, const DiskSpace& floor) {
  return IsShort(kBytes, space, floor);
}

bool FilesAreShort(const DiskSpace& space, const DiskSpace& floor) {
  return IsShort(kFiles, space, floor);
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
  plan.low = BytesAreShort(space, floor) || FilesAreShort(space, floor);
  plan.near = BytesAreShort(space, mark) || FilesAreShort(space, mark);
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
    // Where it is too little to tell who it was, there is still almost all of the floor.
    plan.choose = plan.measure = IsTelling(kBytes, base->space, space, floor) ||
                                 IsTelling(kFiles, base->space, space, floor);
  } else {
    // What grew long ago is not what fills the disk now.
    plan.measure = fallen >= 1.0 / 4 || (fallen >= 1.0 / 256 && now - base->at > kStale);
  }
  return plan;
}

std::optional<DiskGrower> PickDiskGrower(const DiskSample& before, const DiskSample& after,
                                         const DiskSpace& floor) {
  std::optional<DiskGrower> grower;
  for (const Resource& resource : {kBytes, kFiles}) {
    if (!grower && IsTelling(resource, before.space, after.space, floor)) {
      grower = PickBy(resource, before, after);
    }
  }
  return grower;
}

}  // namespace ctr::policy
