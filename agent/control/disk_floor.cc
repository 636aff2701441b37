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
// While the disk stays low it is asked who filled it since there was room, again and again.
constexpr Duration kLatePause = std::chrono::seconds(1);
constexpr Duration kMostLatePause = std::chrono::minutes(1);

std::string SizeText(int64_t bytes) {
  constexpr double kMiB = 1 << 20;
  const double mib = static_cast<double>(bytes) / kMiB;
  return mib < 1024 ? absl::StrFormat("%.1f MiB", mib) : absl::StrFormat("%.1f GiB", mib / 1024);
}

// "812.0 MiB were free, and min_free is 1.0 GiB".
std::string ShortageText(const DiskSpace& space, const DiskSpace& floor, bool by_files) {
  if (by_files) {
    return absl::StrCat("room for ", space.free_files, " more files was left, of ",
                        space.total_files);
  }
  return absl::StrCat(SizeText(std::max<int64_t>(space.free_bytes, 0)),
                      " were free, and min_free is ", SizeText(floor.free_bytes));
}

bool IsKept(const Instance& instance) { return instance.config().disk == Disk::kKeep; }

// By what it keeps, see policy::DiskSample.
std::string KeyOf(const Instance& instance) {
  return IsKept(instance) ? instance.name().ToString() : instance.container()->id;
}

// Between the newest measurement and the anchor, if there is one.
constexpr std::string_view kAnchorLine = "anchor\n";

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
  const bool fits = space.free_bytes >= -space.total_bytes &&
                    space.free_bytes <= space.total_bytes && space.free_files >= 0 &&
                    space.free_files <= space.total_files;
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
    const Duration pause = services_.held ? kFloorInterval : co_await Look();
    co_await alarm_->WaitUntil(services_.clock.Now() + pause);
  }
}

void DiskFloor::NoteChange(const Instance& instance) {
  const bool is_unknown = base_ && instance.container() && IsKept(instance) &&
                          !base_->containers.contains(KeyOf(instance));
  if (is_unknown) alarm_->Ring();
}

DiskFloor::Live DiskFloor::LiveInstances() const {
  Live live;
  for (const auto& [name, instance] : services_.instances) {
    if (!instance->container()) continue;
    live[KeyOf(*instance)] = {instance, instance->container()->id};
  }
  return live;
}

// Whoever filled the disk would fill the agent's reserve as well: less than nothing is left then.
awaitable<StatusOr<DiskSpace>> DiskFloor::Space() {
  StatusOr<DiskSpace> space = co_await services_.runtime.Space();
  if (space.ok()) {
    space->free_bytes -= services_.guard.GivenUpOn(*space);
  }
  co_return space;
}

// A file system is known by its size.
awaitable<void> DiskFloor::Recall(const DiskSpace& space) {
  if (std::exchange(recalled_, true) || options_.memory_file.empty()) co_return;
  const std::string text =
      co_await OnWork(services_.work, [path = options_.memory_file] { return ReadFileText(path); });
  const size_t end = text.find(kAnchorLine);
  const auto read = [&](const std::string& part) {
    std::optional<policy::DiskSample> sample = ParseSample(part, services_.clock.Now());
    const bool is_same = sample && sample->space.total_bytes == space.total_bytes &&
                         sample->space.total_files == space.total_files;
    return is_same ? std::move(sample) : std::nullopt;
  };
  base_ = read(text.substr(0, end));
  if (end != std::string::npos) anchor_ = read(text.substr(end + kAnchorLine.size()));
}

awaitable<void> DiskFloor::Remember() {
  if (options_.memory_file.empty() || services_.held) co_return;
  std::string text = FormatSample(*base_);
  if (anchor_) absl::StrAppend(&text, std::string(kAnchorLine), FormatSample(*anchor_));
  const Status kept = co_await OnWork(
      services_.work,
      [path = options_.memory_file, text = std::move(text)] { return KeepFile(path, text); });
  kept.IgnoreError();  // it may be on the disk that is full; then the one before is still there
}

awaitable<Duration> DiskFloor::Look() {
  const StatusOr<DiskSpace> space = co_await Space();
  if (!space.ok()) {
    low_ = false;
    co_return kFloorInterval;
  }
  co_await Recall(*space);
  const Live live = LiveInstances();
  co_await NoteKeptDisks(live);
  const DiskSpace floor = policy::FloorOf(*space, options_.min_free_bytes);
  const policy::DiskFloorPlan plan =
      policy::DecideDiskFloor(*space, floor, base_, services_.clock.Now());
  NoteLow(plan.low, *space, floor);
  const bool late = plan.low && services_.clock.Now() >= late_at_;
  if (!plan.measure && !late) co_return plan.near ? kFloorIntervalNear : kFloorInterval;

  policy::DiskSample sample{services_.clock.Now(), *space, co_await Measure(live)};
  std::optional<policy::DiskGrower> grower;
  if (plan.choose) grower = policy::PickDiskGrower(*base_, sample, floor);
  if (!grower && anchor_ && (plan.choose || late)) {
    grower = policy::PickDiskGrower(*anchor_, sample, floor);
  }
  const StatusOr<DiskSpace> after = co_await Space();
  const bool fell = after.ok() && policy::FellMeanwhile(*space, *after, floor);
  if (!plan.low && !fell) anchor_ = sample;
  // Else it was a late look, after which who fills it slowly would not have grown by much.
  if (plan.measure || grower) base_ = sample;
  if (grower && !services_.held) {
    Stop(live.at(grower->container), *grower, sample, floor);
  } else if (late) {
    LookLateIn(std::min(2 * late_pause_, kMostLatePause));
  }
  co_await Remember();
  co_return plan.near ? kFloorIntervalNear : kFloorInterval;
}

void DiskFloor::LookLateIn(Duration pause) {
  late_pause_ = pause;
  late_at_ = services_.clock.Now() + pause;
}

awaitable<std::map<std::string, DiskAmount>> DiskFloor::Measure(const Live& live) {
  std::vector<std::string> ids;
  for (const auto& [key, one] : live) ids.push_back(one.container_id);
  std::map<std::string, DiskAmount> measured =
      co_await services_.runtime.MeasureDisks(std::move(ids));
  std::map<std::string, DiskAmount> amounts;
  for (const auto& [key, one] : live) {
    const auto found = measured.find(one.container_id);
    if (found != measured.end()) amounts[key] = found->second;
  }
  co_return amounts;
}

// Whoever was started since the newest measurement began with nothing, unless its disk was kept
// from an earlier start.
awaitable<void> DiskFloor::NoteKeptDisks(const Live& live) {
  if (!base_) co_return;
  std::map<std::string, DiskAmount> kept;
  Live unknown;
  for (const auto& [key, one] : live) {
    if (!IsKept(*one.instance) || base_->containers.contains(key)) continue;
    if (one.instance->observed().generation > 1) {
      unknown[key] = one;
    } else {
      kept[key] = DiskAmount();
    }
  }
  if (!unknown.empty()) kept.merge(co_await Measure(unknown));
  base_->containers.insert(kept.begin(), kept.end());
  if (anchor_) anchor_->containers.insert(kept.begin(), kept.end());
}

void DiskFloor::Stop(const LiveOne& one, const policy::DiskGrower& grower,
                     const policy::DiskSample& sample, const DiskSpace& floor) {
  const std::string growth =
      grower.by_files ? absl::StrCat(grower.files, " files") : SizeText(grower.bytes);
  const std::string what = grower.is_counted
                               ? absl::StrCat("its files had grown most, by ", growth)
                               : std::string(
                                     "not all its files can be counted, and none that can "
                                     "have grown as much as is missing");
  const std::string message =
      absl::StrCat(what, ", when ", ShortageText(sample.space, floor, grower.by_files));
  if (one.instance->StopForDisk(one.container_id, message)) {
    spdlog::error("{}: stopped: {}", one.instance->name().ToString(), message);
  }
  // What it gives back is there in a moment; who goes on filling the disk is looked for then.
  LookLateIn(kLatePause);
  if (!anchor_ || !IsKept(*one.instance)) return;
  // Nobody else has taken what it keeps.
  DiskAmount& known = anchor_->containers[grower.container];
  const DiskAmount now = sample.containers.at(grower.container);
  anchor_->space.free_bytes -= now.bytes - known.bytes;
  anchor_->space.free_files -= now.files - known.files;
  known = now;
}

void DiskFloor::NoteLow(bool low, const DiskSpace& space, const DiskSpace& floor) {
  low_ = low;
  if (std::exchange(told_low_, low) == low) return;
  if (low) {
    LookLateIn(kLatePause);
    const std::string message =
        absl::StrCat("the disk that instances write to runs full (",
                     ShortageText(space, floor, !policy::BytesAreShort(space, floor)),
                     "): the one that grows most will be stopped; make room");
    spdlog::error("{}", message);
    services_.events.Record({.type = event::kDiskLow, .message = message});
  } else {
    spdlog::info("there is room again on the disk that instances write to");
  }
}

}  // namespace ctr
