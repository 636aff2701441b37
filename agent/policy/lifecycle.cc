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
  if (view.look_at && (!sleeps_at || *view.look_at < *sleeps_at)) {
    return {Step::kNone, std::max(*view.look_at, now)};
  }
  return {Step::kNone, sleeps_at};
}

}  // namespace

std::optional<MonoTime> SleepsAt(const IdleView& view, MonoTime now) {
  if (!view.sleep_after) return std::nullopt;
  const MonoTime sleeps_at = (view.busy ? now : view.last_activity) + *view.sleep_after;
  if (!view.tcp_idle) return sleeps_at;
  return std::max(sleeps_at, view.last_tunnel_activity + *view.tcp_idle);
}

Duration CpuSampleInterval(Duration sleep_after) {
  return std::clamp<Duration>(sleep_after / 4, milliseconds(100), seconds(15));
}

bool IsBusy(Duration cpu_time, Duration elapsed, double limit) {
  return static_cast<double>(cpu_time.count()) > limit * static_cast<double>(elapsed.count());
}

LifecyclePlan DecideLifecycle(const LifecycleView& view, MonoTime now) {
  if (view.state == State::kStopped) {
    if (view.destroy_wanted) {
      return {view.end_blocked ? Step::kNone : Step::kForget, std::nullopt};
    }
    if (view.start_blocked) return {};
    if (view.start_wanted) return {Step::kStart, std::nullopt};
    if (view.restart_at && *view.restart_at <= now) return {Step::kStart, std::nullopt};
    return {Step::kNone, view.restart_at};
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
