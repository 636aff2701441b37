#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <span>
#include <utility>

#include "agent/base/time.h"

namespace ctr::policy {

struct MemoryConfig {
  double target = 0.8;       // memory used as a part of the limit, over the ready instances
  double pressure = 10;      // percent of time that something waits for memory: more than that
  double replace_at = 0.95;  // one that uses so much is to be replaced
  Duration horizon = std::chrono::seconds(120);      // or one that will reach its limit in that
  Duration trend_window = std::chrono::seconds(60);  // that the trend is taken over
  double trend_floor = 0.6;  // below it a trend is the growth of its start, not a leak
  Duration settle = std::chrono::seconds(60);  // until one more instance shows what it does
  Duration hold = std::chrono::seconds(300);   // a wish outlives what it was made for by that
};

// One instance of the class.
struct MemoryInstance {
  int index = 0;
  uint64_t generation = 0;  // of another one nothing that was seen before counts
  bool ready = true;        // healthy, not draining
  double used_bytes = 0;    // without what the kernel can drop: memory.current - inactive_file
  double limit_bytes = 0;
  double pressure = 0;  // "some avg10" of its memory.pressure, percent
};

struct MemoryReplacement {
  int index = 0;
  uint64_t generation = 0;
  double used = 0;                   // part of the limit
  std::optional<Duration> limit_in;  // by its trend; none: it uses replace_at already
};

struct MemoryWish {
  enum class Status {
    kNothing,  // no ready instance with a limit to go by
    kBelow,    // below the target: abstains, whatever the others want
    kMore,     // above the target, or under pressure
    kHeld,     // was above it shortly before
    kNoHelp,   // above it, but more instances did not relieve the ones there were: abstains
  } status = Status::kNothing;
  std::optional<int> wish;
  double utilization = 0;  // of the ready instances together, one to be replaced aside
  double pressure = 0;     // of the one with the most
  std::optional<MemoryReplacement> replace;
};

// The memory of one instance over the last while. A value; one thread.
class MemoryTrend {
 public:
  // `used` as a part of the limit.
  void Record(MonoTime at, double used, Duration window);

  // How long until it reaches its limit if it goes on as in the window, by least squares; none if
  // it does not grow, in its later half either, or was not seen for the window's better part.
  std::optional<Duration> LimitIn(Duration window) const;

 private:
  std::deque<std::pair<MonoTime, double>> samples_;
};

// What the memory of a class's instances wants. Above the target it asks for more, by the ratio to
// the target as Kubernetes' HPA does (ceil(ready * utilization / target)), and pressure adds one.
// It never asks for fewer. Memory often does not follow the load: so it asks for more only when
// what it asked for last is ready and has had time to show, and no more once that was no relief,
// that is less than half of what spreading the same memory over more instances would be, and
// pressure did not fall by half. A value; one thread.
class MemoryScaler {
 public:
  explicit MemoryScaler(const MemoryConfig& config) : config_(config) {}

  void Configure(const MemoryConfig& config) { config_ = config; }

  // Of the instances that climb to their limit, `replace` is the one that gets there first.
  MemoryWish Decide(std::span<const MemoryInstance> instances, MonoTime now);

 private:
  struct Asked {
    int ready = 0;  // that there were
    double utilization = 0;
    double pressure = 0;
    int wish = 0;
    std::optional<MonoTime> fulfilled_at;
  };

  bool Relieved(const MemoryWish& now_is, int ready) const;
  void Ask(MemoryWish& result, int ready, MonoTime now);
  std::optional<MemoryReplacement> FindReplacement(std::span<const MemoryInstance> instances,
                                                   MonoTime now);

  MemoryConfig config_;
  std::map<std::pair<int, uint64_t>, MemoryTrend> trends_;  // by index and generation
  std::optional<Asked> asked_;
  MonoTime needed_at_;  // when it was above the target last; with asked_
  bool no_help_ = false;
};

}  // namespace ctr::policy
