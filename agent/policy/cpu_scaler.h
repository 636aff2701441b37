#pragma once

#include <deque>
#include <optional>
#include <span>
#include <utility>

#include "agent/base/time.h"

namespace ctr::policy {

// Kubernetes' HorizontalPodAutoscaler for CPU, with the defaults of its controller manager.
struct CpuConfig {
  double target = 0.7;     // CPU used as a part of the limit; Kubernetes: of the request
  double tolerance = 0.1;  // within it of the target nothing changes
  Duration stabilization = std::chrono::seconds(300);           // down to the most wished for in it
  Duration initialization = std::chrono::minutes(5);            // samples of its start are suspect
  Duration initial_readiness_delay = std::chrono::seconds(30);  // "has never been ready" since
};

struct CpuSample {
  double cores = 0;  // used, averaged over `window`
  MonoTime at;       // the window's end
  Duration window = std::chrono::seconds(15);
};

// One instance of the class that runs, or is to.
struct CpuInstance {
  enum class Phase {
    kPending,  // no process yet
    kRunning,  // has a process
    kLeaving,  // drains or has failed: does not count
  } phase = Phase::kRunning;
  double limit_cores = 0;
  std::optional<CpuSample> sample;
  bool ready = true;                         // healthy
  std::optional<MonoTime> started_at;        // its process
  std::optional<MonoTime> ready_changed_at;  // when `ready` became what it is
};

struct CpuWish {
  enum class Status {
    kOk,
    kNoInstances,  // nothing to go by
    kNoLimit,      // an instance has no CPU limit: there is nothing it could be a part of
    kNoSamples,    // of instances that count
  } status = Status::kNoInstances;
  int wish = 0;
  double utilization = 0;   // of the instances that count, in whole percent as parts of 1
  bool stabilized = false;  // fewer would do, but more were wished for shortly before
  bool rate_limited = false;

  bool valid() const { return status == Status::kOk; }
};

// How many instances the CPU that `instances` use wants, where there are `current` (kubernetes,
// pkg/controller/podautoscaler/replica_calculator.go, GetResourceReplicas and groupPods): current *
// utilization / target, rounded up. An instance without a sample counts as using all of its limit
// where fewer would do, and nothing where more are wanted; one that is not ready as using nothing
// where more are wanted; and if with these it would go the other way, nothing changes. No
// stabilization, no rate.
CpuWish CpuReplicas(std::span<const CpuInstance> instances, int current, const CpuConfig& config,
                    MonoTime now);

// CpuReplicas over time, with the behaviour that autoscaling/v2 defaults to where a `behavior` is
// given (pkg/apis/autoscaling/v2/defaults.go, horizontal.go): up without delay, by at most 4
// instances or 100 %, whichever is more, in 15 seconds; down without a limit, to the most that was
// wished for in the last 300 seconds. A value; one thread.
class CpuScaler {
 public:
  explicit CpuScaler(const CpuConfig& config) : config_(config) {}

  void Configure(const CpuConfig& config) { config_ = config; }

  // `current`: how many there are to be now.
  CpuWish Decide(std::span<const CpuInstance> instances, int current, MonoTime now);

  // The number there are to be was changed, by this wish or by another.
  void Scaled(int from, int to, MonoTime now);

 private:
  int Stabilize(int wish, int current, MonoTime now);
  int ScaleUpLimit(int current, MonoTime now);

  CpuConfig config_;
  std::deque<std::pair<MonoTime, int>> wishes_;   // those that may be the maximum, descending
  std::deque<std::pair<MonoTime, int>> changes_;  // of the last 15 seconds
  bool began_ = false;
};

}  // namespace ctr::policy
