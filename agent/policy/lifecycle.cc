#include "agent/policy/lifecycle.h"

#include <algorithm>

namespace ctr::policy {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

LifecyclePlan DecideRunning(const LifecycleView& view, MonoTime now) {
  if (view.listening) return {Step::kMarkHealthy, std::nullopt};
  if (now >= view.start_deadline) return {Step::kFailStart, std::nullopt};
  return {Step::kNone, std::min(view.start_deadline, now + ProbeInterval(now - view.started_at))};
}

LifecyclePlan DecideHealthy(const LifecycleView& view, MonoTime now) {
  std::optional<MonoTime> sleeps_at = SleepsAt(view.idle, now);
  if (sleeps_at && *sleeps_at <= now) return {Step::kSleep, std::nullopt};
  return {Step::kNone, sleeps_at};
}

}  // namespace

std::optional<MonoTime> SleepsAt(const IdleView& view, MonoTime now) {
  if (!view.sleep_after) return std::nullopt;
  return (view.busy ? now : view.last_activity) + *view.sleep_after;
}

LifecyclePlan DecideLifecycle(const LifecycleView& view, MonoTime now) {
  if (view.state == State::kStopped) {
    if (view.destroy_wanted) return {Step::kForget, std::nullopt};
    if (view.start_wanted) return {Step::kStart, std::nullopt};
    return {};
  }
  if (view.destroy_wanted) return {Step::kKill, std::nullopt};
  if (view.exited) return {Step::kReap, std::nullopt};
  if (view.stop_wanted) return {Step::kStop, std::nullopt};
  if (view.state == State::kRunning) return DecideRunning(view, now);
  if (view.state == State::kHealthy) return DecideHealthy(view, now);
  return {};
}

Duration ProbeInterval(Duration since_start) {
  return since_start < seconds(1) ? milliseconds(1) : milliseconds(4);
}

}  // namespace ctr::policy
