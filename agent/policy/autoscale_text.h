#pragma once

#include <string>

#include "agent/policy/autoscale.h"

namespace ctr::policy {

// The lines for people of an AutoscaleDecision, as in
// "traffic: 37.2 in flight / 10 ready, target 7: wants 6; panic since 4 s".
std::string TrafficText(const TrafficWish& wish, TrafficConfig::Metric metric, int ready);
std::string QueueText(int queued, int ready, int wish);
std::string CpuText(const CpuWish& wish, double target);
std::string MemoryText(const MemoryWish& wish, double target);
// What the bound says, to follow the line of the signal; empty if there is none.
std::string BoundText(const AutoscaleDecision& decision, const AutoscaleConfig& config);

}  // namespace ctr::policy
