#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>

#include "agent/control/instance.h"
#include "agent/policy/cpu_scaler.h"
#include "agent/policy/overload.h"

namespace ctr {

struct HostSize {
  double cpus = 0;
  uint64_t memory_bytes = 0;
};
const HostSize& SizeOfHost();

// What the instances of a class use, and which of them are overloaded by it, which it tells their
// slots and the events. Runtime and events outlive it. Home: the control loop.
class ClassUsage {
 public:
  // What was read of one start of an instance.
  struct Reading {
    uint64_t generation = 0;
    Duration cpu_time{0};
    MonoTime at;
    std::optional<policy::CpuSample> cpu;
    double memory_used = 0;      // bytes
    double memory_pressure = 0;  // part of the time that something waited for memory
    policy::Overload overload;
    policy::OverloadCause cause = policy::OverloadCause::kNone;  // of the newest overload
    int ejections = 0;
  };

  ClassUsage(Runtime& runtime, EventLog& events) : runtime_(runtime), events_(events) {}
  ClassUsage(const ClassUsage&) = delete;

  // Reads those that are healthy, and forgets the others; once a second. `members` by their index.
  void Read(const ClassConfig& config, const std::map<int, std::shared_ptr<Instance>>& members,
            MonoTime now);

  // Of that start; null if it was not read yet. Until the next Read.
  const Reading* Find(int index, uint64_t generation) const;

 private:
  void ReadOne(const ClassConfig& config, Instance& instance, Reading& reading, MonoTime now);
  void LookAtEjections(const Instance& instance, Reading& reading);
  void LookAtOverload(const ClassConfig& config, Instance& instance,
                      const policy::OverloadSample& sample, Reading& reading);

  Runtime& runtime_;
  EventLog& events_;
  std::map<int, Reading> readings_;
};

}  // namespace ctr
