#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "agent/model/class_config.h"
#include "agent/model/event.h"
#include "agent/model/instance.h"

namespace ctr {

// What is known about an instance when somebody asks why it is as it is.
struct WhyView {
  InstanceRecord record;
  ClassConfig config;         // of its class, as it is now
  std::vector<Event> events;  // the newest ones of it, the oldest first
  WallTime now;
  uint64_t in_flight = 0;
  int visits = 0;                         // exec sessions and copies in it
  std::optional<WallTime> last_activity;  // while it runs
  std::optional<WallTime> sleeps_at;      // if nothing more happens
  bool passing = true;                    // its readiness check
  bool outdated = false;                  // as Instance::Outdated
  bool old_image = false;                 // as Instance::RunsOldImage
  bool awaits_room = false;               // as Instance::AwaitsRoom
  bool behind = false;                    // as CpuRanks::IsBehind
};

// How the cause begins of what the autoscaler does with an instance.
inline constexpr char kAutoscaleCause[] = "autoscale: ";

// Why the instance is in its state, what led there and what comes next, in sentences for a person.
// Pure.
std::vector<std::string> Explain(const WhyView& view);

}  // namespace ctr
