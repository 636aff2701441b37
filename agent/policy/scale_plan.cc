#include "agent/policy/scale_plan.h"

#include <algorithm>
#include <set>
#include <tuple>

namespace ctr::policy {

ScalePlan PlanScale(std::span<const ScaledInstance> instances, const ScaleGoal& goal) {
  std::vector<const ScaledInstance*> live;
  std::set<int> taken;
  for (const ScaledInstance& instance : instances) {
    taken.insert(instance.index);
    if (instance.IsLive()) live.push_back(&instance);
  }
  const int missing = goal.count - static_cast<int>(live.size());
  ScalePlan plan;
  if (missing >= 0) {
    const auto most = static_cast<size_t>(std::clamp(goal.room, 0, missing));
    for (int index = 0; index < goal.max && plan.start.size() < most; ++index) {
      if (!taken.contains(index)) plan.start.push_back(index);
    }
    return plan;
  }
  const auto order = [&](const ScaledInstance* instance) {
    return std::tuple(instance->index != goal.victim, instance->index < goal.max,
                      instance->phase == ScaledInstance::Phase::kHealthy, instance->in_flight,
                      instance->last_activity, -instance->index);
  };
  std::sort(live.begin(), live.end(),
            [&](const auto* a, const auto* b) { return order(a) < order(b); });
  live.resize(std::min(live.size(), static_cast<size_t>(-missing)));
  for (const ScaledInstance* instance : live) plan.drain.push_back(instance->index);
  return plan;
}

}  // namespace ctr::policy
