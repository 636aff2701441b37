#include "agent/control/class_usage.h"

#include <sys/sysinfo.h>

namespace ctr {
namespace {

const char* NameOf(policy::OverloadCause cause) {
  switch (cause) {
    case policy::OverloadCause::kCpu:
      return "CPU above max_cpu";
    case policy::OverloadCause::kMemory:
      return "memory above max_memory";
    case policy::OverloadCause::kCpuPressure:
      return "its processes wait for CPU";
    case policy::OverloadCause::kMemoryPressure:
      return "its processes wait for memory";
    case policy::OverloadCause::kInFlight:
      return "max_concurrency requests are in flight";
    case policy::OverloadCause::kNone:
      break;
  }
  return "";
}

}  // namespace

const HostSize& SizeOfHost() {
  static const HostSize size = [] {
    struct sysinfo info = {};
    ::sysinfo(&info);
    return HostSize{static_cast<double>(::get_nprocs()), uint64_t{info.totalram} * info.mem_unit};
  }();
  return size;
}

void ClassUsage::Read(const ClassConfig& config,
                      const std::map<int, std::shared_ptr<Instance>>& members, MonoTime now) {
  std::erase_if(readings_, [&](const auto& reading) {
    auto member = members.find(reading.first);
    return member == members.end() ||
           member->second->observed().generation != reading.second.generation;
  });
  for (const auto& [index, instance] : members) {
    if (instance->state() == State::kHealthy) ReadOne(config, *instance, readings_[index], now);
  }
}

const ClassUsage::Reading* ClassUsage::Find(int index, uint64_t generation) const {
  auto found = readings_.find(index);
  return found == readings_.end() || found->second.generation != generation ? nullptr
                                                                            : &found->second;
}

void ClassUsage::ReadOne(const ClassConfig& config, Instance& instance, Reading& reading,
                         MonoTime now) {
  reading.generation = instance.observed().generation;
  LookAtEjections(instance, reading);
  if (!instance.container()) return;
  StatusOr<ResourceUsage> usage = runtime_.Usage(instance.container()->id);
  if (!usage.ok()) return;
  const HostSize& host = SizeOfHost();
  const Resources& resources = config.resources;
  policy::OverloadSample sample;
  if (reading.at != MonoTime()) {
    const Duration used = usage->cpu_time - reading.cpu_time;
    const Duration elapsed = now - reading.at;
    sample.cpu = policy::CpuShare(used, elapsed, resources.cpus.value_or(0), host.cpus);
    if (elapsed > Duration::zero()) {
      reading.cpu = {
          .cores = static_cast<double>(used.count()) / static_cast<double>(elapsed.count()),
          .at = now,
          .window = elapsed};
    }
  }
  reading.cpu_time = usage->cpu_time;
  reading.at = now;
  reading.memory_used = static_cast<double>(usage->memory_bytes);
  reading.memory_pressure = usage->memory_pressure_some.value_or(0);
  sample.memory = policy::MemoryShare(static_cast<uint64_t>(usage->memory_bytes),
                                      static_cast<uint64_t>(resources.memory_bytes.value_or(0)),
                                      host.memory_bytes);
  sample.cpu_pressure = usage->cpu_pressure_full;
  sample.memory_pressure = usage->memory_pressure_full;
  sample.in_flight = policy::InFlightShare(
      instance.slot()->in_flight(), static_cast<uint32_t>(config.max_concurrency.value_or(0)));
  LookAtOverload(config, instance, sample, reading);
}

void ClassUsage::LookAtEjections(const Instance& instance, Reading& reading) {
  const int ejections = instance.slot()->load().ejection().count;
  if (ejections > reading.ejections) {
    events_.Record({.type = event::kEjected,
                    .instance = instance.name(),
                    .generation = reading.generation,
                    .message = "its requests failed one after the other: it gets none for a "
                               "while"});
  }
  reading.ejections = ejections;
}

void ClassUsage::LookAtOverload(const ClassConfig& config, Instance& instance,
                                const policy::OverloadSample& sample, Reading& reading) {
  const bool before = reading.overload.overloaded;
  reading.overload = policy::NextOverload(
      reading.overload, sample,
      {.cpu = config.readiness.max_cpu, .memory = config.readiness.max_memory});
  instance.slot()->load().set_overloaded(reading.overload.overloaded);
  if (reading.overload.overloaded == before) return;
  // At max_concurrency it is now and then, by the traffic alone: that is no event.
  const policy::OverloadCause cause = before ? reading.cause : reading.overload.cause;
  reading.cause = cause;
  if (cause == policy::OverloadCause::kInFlight) return;
  events_.Record({.type = before ? event::kRelieved : event::kOverloaded,
                  .instance = instance.name(),
                  .generation = reading.generation,
                  .message = before ? "" : NameOf(cause)});
}

}  // namespace ctr
