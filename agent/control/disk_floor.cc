#include "agent/control/disk_floor.h"

#include <algorithm>
#include <sstream>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "agent/base/read_file.h"
#include "agent/base/work.h"
#include "agent/base/write_file.h"
#include "spdlog/spdlog.h"

namespace ctr {
namespace {

constexpr Duration kFloorInterval = std::chrono::seconds(1);
constexpr Duration kFloorIntervalNear = std::chrono::milliseconds(250);

std::string SizeText(int64_t bytes) {
  constexpr double kMiB = 1 << 20;
  const double mib = static_cast<double>(bytes) / kMiB;
  return mib < 1024 ? absl::StrFormat("%.1f MiB", mib) : absl::StrFormat("%.1f GiB", mib / 1024);
}

// "812.0 MiB were free, and min_free is 1.0 GiB".
std::string ShortageText(const DiskSpace& space, const DiskSpace& floor) {
  if (policy::FilesAreShort(space, floor)) {
    return absl::StrCat("room for ", space.free_files, " more files was left, of ",
                        space.total_files);
  }
  return absl::StrCat(SizeText(space.free_bytes), " were free, and min_free is ",
                      SizeText(floor.free_bytes));
}

// A line of the file system, and one for each container.
std::string FormatSample(const policy::DiskSample& sample) {
  const DiskSpace& space = sample.space;
  std::string text = absl::StrCat(space.total_bytes, " ", space.free_bytes, " ", space.total_files,
                                  " ", space.free_files, "\n");
  for (const auto& [id, amount] : sample.containers) {
    absl::StrAppend(&text, id, " ", amount.bytes, " ", amount.files, " ", amount.whole ? 1 : 0,
                    "\n");
  }
  return text;
}

std::optional<policy::DiskSample> ParseSample(const std::string& text, MonoTime now) {
  std::istringstream in(text);
  policy::DiskSample sample{.at = now, .space = {}, .containers = {}};
  DiskSpace& space = sample.space;
  in >> space.total_bytes >> space.free_bytes >> space.total_files >> space.free_files;
  const bool fits = space.free_bytes >= 0 && space.free_bytes <= space.total_bytes &&
                    space.free_files >= 0 && space.free_files <= space.total_files;
  if (!in || !fits) return std::nullopt;
  std::string id;
  for (DiskAmount amount; in >> id >> amount.bytes >> amount.files >> amount.whole;) {
    if (amount.bytes < 0 || amount.files < 0) return std::nullopt;
    sample.containers[id] = amount;
  }
  return sample;
}

}  // namespace

awaitable<void> DiskFloor::Run() {
  for (;;) {
    const Duration pause = co_await Look();
    co_await clock_.SleepUntil(clock_.Now() + pause);
  }
}

DiskFloor::Live DiskFloor::LiveInstances() const {
  Live live;
  for (const auto& [name, instance] : instances_) {
    if (instance->container()) live[instance->container()->id] = instance;
  }
  return live;
}

// Whoever filled the disk would fill the agent's reserve as well.
awaitable<StatusOr<DiskSpace>> DiskFloor::Space() {
  StatusOr<DiskSpace> space = co_await runtime_.Space();
  if (space.ok()) {
    space->free_bytes = std::max<int64_t>(space->free_bytes - guard_.GivenUpOn(*space), 0);
  }
  co_return space;
}

// A file system is known by its size.
awaitable<void> DiskFloor::Recall(const DiskSpace& space) {
  if (std::exchange(recalled_, true) || options_.memory_file.empty()) co_return;
  const std::string text =
      co_await OnWork(work_, [path = options_.memory_file] { return ReadFileText(path); });
  std::optional<policy::DiskSample> sample = ParseSample(text, clock_.Now());
  const bool is_same = sample && sample->space.total_bytes == space.total_bytes &&
                       sample->space.total_files == space.total_files;
  if (is_same) base_ = std::move(sample);
}

awaitable<void> DiskFloor::Remember() {
  if (options_.memory_file.empty()) co_return;
  const Status kept = co_await OnWork(
      work_,
      [path = options_.memory_file, text = FormatSample(*base_)] { return KeepFile(path, text); });
  kept.IgnoreError();  // it may be on the disk that is full; then the one before is still there
}

awaitable<Duration> DiskFloor::Look() {
  const StatusOr<DiskSpace> space = co_await Space();
  if (!space.ok()) co_return kFloorInterval;
  co_await Recall(*space);
  const Live live = LiveInstances();
  co_await NoteKeptDisks(live);
  const DiskSpace floor = policy::FloorOf(*space, options_.min_free_bytes);
  const policy::DiskFloorPlan plan = policy::DecideDiskFloor(*space, floor, base_, clock_.Now());
  NoteLow(plan.low, *space, floor);
  if (!plan.measure) co_return plan.near ? kFloorIntervalNear : kFloorInterval;

  std::vector<std::string> ids;
  for (const auto& [id, instance] : live) ids.push_back(id);
  policy::DiskSample sample{clock_.Now(), *space, co_await runtime_.MeasureDisks(std::move(ids))};
  const std::optional<policy::DiskGrower> grower = plan.choose ? Pick(sample, floor) : std::nullopt;
  const StatusOr<DiskSpace> after = co_await Space();
  const bool fell = after.ok() && policy::FellMeanwhile(*space, *after, floor);
  earlier_ = std::exchange(base_, std::move(sample));
  if (!fell) earlier_.reset();
  if (grower) {
    Stop(*live.at(grower->container), *grower, floor);
    // What it gives back is no reason to look at the others.
    base_.reset();
    earlier_.reset();
  } else {
    co_await Remember();
  }
  co_return plan.near ? kFloorIntervalNear : kFloorInterval;
}

std::optional<policy::DiskGrower> DiskFloor::Pick(const policy::DiskSample& sample,
                                                  const DiskSpace& floor) const {
  std::optional<policy::DiskGrower> grower = policy::PickDiskGrower(*base_, sample, floor);
  if (!grower && earlier_) grower = policy::PickDiskGrower(*earlier_, sample, floor);
  return grower;
}

// Whoever was started since the newest measurement began with nothing, unless its disk was kept
// from an earlier start.
awaitable<void> DiskFloor::NoteKeptDisks(const Live& live) {
  std::vector<std::string> ids;
  for (const auto& [id, instance] : live) {
    const bool keeps =
        instance->config().disk == Disk::kKeep && instance->observed().generation > 1;
    if (keeps && base_ && !base_->containers.contains(id)) ids.push_back(id);
  }
  if (ids.empty()) co_return;
  std::map<std::string, DiskAmount> kept = co_await runtime_.MeasureDisks(std::move(ids));
  if (earlier_) earlier_->containers.insert(kept.begin(), kept.end());
  base_->containers.merge(kept);
}

void DiskFloor::Stop(Instance& instance, const policy::DiskGrower& grower, const DiskSpace& floor) {
  const DiskSpace& space = base_->space;
  const std::string growth = policy::FilesAreShort(space, floor)
                                 ? absl::StrCat(grower.files, " files")
                                 : SizeText(grower.bytes);
  const std::string what = grower.is_counted
                               ? absl::StrCat("its files had grown most, by ", growth)
                               : std::string(
                                     "not all its files can be counted, and none that can "
                                     "have grown as much as is missing");
  const std::string message = absl::StrCat(what, ", when ", ShortageText(space, floor));
  spdlog::error("{}: stopped: {}", instance.name().ToString(), message);
  instance.StopForDisk(grower.container, message);
}

void DiskFloor::NoteLow(bool low, const DiskSpace& space, const DiskSpace& floor) {
  if (std::exchange(low_, low) == low) return;
  if (low) {
    const std::string message =
        absl::StrCat("the disk that instances write to runs full (", ShortageText(space, floor),
                     "): the one that grows most will be stopped; make room");
    spdlog::error("{}", message);
    events_.Record({.type = event::kDiskLow, .message = message});
  } else {
    spdlog::info("there is room again on the disk that instances write to");
  }
}

}  // namespace ctr
