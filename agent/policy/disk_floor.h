#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "agent/base/time.h"
#include "agent/model/disk_use.h"

namespace ctr::policy {

struct DiskSample {
  MonoTime at;
  DiskSpace space;  // looked at before the containers were measured
  // By what they keep: a container's ID, or the name of the instance whose disk is kept. What has
  // no container now may be there as well.
  std::map<std::string, DiskAmount> containers;
};

// What is to be left of a file system: `min_free` bytes (none: a gibibyte, or a twentieth of a
// small disk), and a hundredth of its files.
DiskSpace FloorOf(const DiskSpace& space, std::optional<int64_t> min_free);

// Whether less of it is left than is to be.
bool BytesAreShort(const DiskSpace& space, const DiskSpace& floor);
bool FilesAreShort(const DiskSpace& space, const DiskSpace& floor);

struct DiskFloorPlan {
  bool low = false;      // below the floor
  bool near = false;     // soon below it, at worst: look more often
  bool measure = false;  // what each container takes: to compare with, or to choose by
  bool choose = false;   // with `measure`: one has to go
};

// `base`: the newest measurement, if there is one.
DiskFloorPlan DecideDiskFloor(const DiskSpace& space, const DiskSpace& floor,
                              const std::optional<DiskSample>& base, MonoTime now);

struct DiskGrower {
  std::string container;
  int64_t bytes = 0;  // it grew by
  int64_t files = 0;
  bool by_files = false;   // chosen by them
  bool is_counted = true;  // false: by more than that, since some of its files can't be counted
};

// Whether so much went while a measurement was made that it may have counted what its `space` does
// not tell of: whoever wrote that seems not to grow from there.
bool FellMeanwhile(const DiskSpace& before, const DiskSpace& after, const DiskSpace& floor);

// Who filled the disk between two measurements: the container that grew most, of the ones that
// together took at least a quarter of what went. Where some can't be counted, and more went
// unexplained than that one took, the largest of those. Nobody if none of them is to blame, or too
// little went to tell.
std::optional<DiskGrower> PickDiskGrower(const DiskSample& before, const DiskSample& after,
                                         const DiskSpace& floor);

}  // namespace ctr::policy
