#include "agent/policy/restart.h"

#include <algorithm>

namespace ctr::policy {
namespace {

constexpr Duration kFirstBackoff = std::chrono::milliseconds(100);
constexpr Duration kLongestBackoff = std::chrono::minutes(1);
constexpr int kMaxDoublings = 10;  // 100 ms * 2^10 is beyond the longest

}  // namespace

RestartPlan DecideRestart(const EndView& end) {
  const bool counts = end.failed || end.restart == RestartPolicy::kAlways;
  if (!counts) return {};
  RestartPlan plan;
  plan.failures = (end.ran >= kSteady ? 0 : end.failures) + 1;
  const int doublings = std::min(plan.failures - 1, kMaxDoublings);
  plan.backoff = std::min(kFirstBackoff * (1 << doublings), kLongestBackoff);
  plan.gave_up = end.restart == RestartPolicy::kOnFailure && plan.failures > kMaxRestarts;
  plan.restart = end.restart != RestartPolicy::kNever && !plan.gave_up;
  return plan;
}

}  // namespace ctr::policy
