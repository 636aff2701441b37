#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "agent/control/event_log.h"
#include "agent/control/instance.h"

namespace ctr {

// What each class's instances use, looked at every ten seconds, and what came to it, told once a
// minute as an event of type `traffic`: from these `ctr autoscale simulate` makes a trace. Also
// tells (`limited`) whom the kernel held to its limits. What it is given outlives it. Home: the
// control loop.
class ClassMeter {
 public:
  struct Use {
    Duration cpu_time{0};  // since this agent began, of all its instances, also those that ended
    int64_t memory_bytes = 0;  // of those there are, without what the kernel can take back at once
    int instances = 0;         // that were looked at
  };

  ClassMeter(Clock& clock, Runtime& runtime, EventLog& events,
             const std::map<std::string, std::shared_ptr<ClassState>>& classes,
             const std::map<InstanceName, std::shared_ptr<Instance>>& instances)
      : clock_(clock),
        runtime_(runtime),
        events_(events),
        classes_(classes),
        instances_(instances) {}
  ClassMeter(const ClassMeter&) = delete;

  // Never returns; may be cancelled.
  awaitable<void> Run();

  // At the last look.
  Use Of(const std::string& class_name) const;

 private:
  // Of a class when its traffic was told last.
  struct Told {
    uint64_t requests = 0;
    double seconds = 0;  // that they took
    Duration cpu_time{0};
  };

  // Of a container when it was looked at last.
  struct Seen {
    Duration cpu_time{0};
    int64_t oom_kills = 0;
    int64_t refused_processes = 0;
    std::optional<MonoTime> told;  // that the kernel held it to its limits
  };

  awaitable<void> Look();
  void LookAtLimits(const Instance& instance, const ClassConfig& config, const ResourceUsage& usage,
                    Seen& seen);
  void Tell(Duration since);
  void TellOf(const std::string& class_name, const Traffic::Sums& sums, Duration since);

  Clock& clock_;
  Runtime& runtime_;
  EventLog& events_;
  const std::map<std::string, std::shared_ptr<ClassState>>& classes_;
  const std::map<InstanceName, std::shared_ptr<Instance>>& instances_;
  bool looked_ = false;
  std::map<std::string, Seen> seen_;  // by container
  std::map<std::string, Use> uses_;
  std::map<std::string, Told> told_;
};

}  // namespace ctr
