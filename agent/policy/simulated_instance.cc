#include "agent/policy/simulated_instance.h"

#include <algorithm>
#include <limits>

namespace ctr::policy {

void SimulatedInstance::AdvanceTo(double now, double cpu_limit) {
  const double elapsed = now - at_;
  at_ = now;
  if (running_.empty() || elapsed <= 0) return;
  own_time_ += elapsed * Speed(cpu_limit);
  cpu_used += elapsed * Speed(cpu_limit) * cores_;
  busy_area += elapsed * static_cast<double>(running_.size());
}

void SimulatedInstance::Take(const SimulatedRequest& request, double now, double cpu_limit) {
  AdvanceTo(now, cpu_limit);
  running_.push({own_time_ + request.service, request});
  cores_ += request.cores;
  last_activity = now;
}

double SimulatedInstance::NextEnd(double cpu_limit) const {
  if (running_.empty()) return std::numeric_limits<double>::infinity();
  return at_ + std::max(0.0, running_.top().end - own_time_) / Speed(cpu_limit);
}

SimulatedRequest SimulatedInstance::Finish(double now, double cpu_limit) {
  AdvanceTo(now, cpu_limit);
  const SimulatedRequest request = running_.top().request;
  running_.pop();
  cores_ = running_.empty() ? 0 : cores_ - request.cores;
  last_activity = now;
  return request;
}

double SimulatedInstance::Speed(double cpu_limit) const {
  return cpu_limit > 0 && cores_ > cpu_limit ? cpu_limit / cores_ : 1;
}

}  // namespace ctr::policy
