#include "agent/policy/readiness.h"

#include <algorithm>
#include <limits>

namespace ctr::policy {
namespace {

constexpr Duration kClosest = std::chrono::milliseconds(5);
constexpr Duration kFarthest = std::chrono::hours(24);

int AtLeastOne(int threshold) { return std::max(threshold, 1); }

int OneMore(int count) { return count < std::numeric_limits<int>::max() ? count + 1 : count; }

}  // namespace

Readiness NewReadiness(MonoTime started_at) {
  Readiness readiness;
  readiness.started_at = readiness.awake_since = started_at;
  return readiness;
}

Readiness AfterThaw(Readiness readiness, MonoTime now) {
  readiness.awake_since = now;
  readiness.last.reset();
  return readiness;
}

Readiness WithCheck(Readiness readiness, const Check& check,
                    const ReadinessThresholds& thresholds) {
  if (check.begun < readiness.awake_since) return readiness;
  readiness.last = check;
  if (check.result == Check::Result::kPassed) {
    readiness.failures = 0;
    readiness.successes = OneMore(readiness.successes);
    if (readiness.successes >= AtLeastOne(thresholds.successes)) {
      readiness.passing = readiness.passed_once = true;
    }
  } else {
    readiness.successes = 0;
    readiness.failures = OneMore(readiness.failures);
    if (readiness.failures >= AtLeastOne(thresholds.failures)) readiness.passing = false;
  }
  return readiness;
}

std::optional<MonoTime> NextCheckAt(const Readiness& readiness,
                                    const ReadinessThresholds& thresholds, bool awake,
                                    MonoTime now) {
  if (!awake) return std::nullopt;
  if (!readiness.last) return now;
  const Duration interval = std::clamp(thresholds.interval, kClosest, kFarthest);
  MonoTime due = readiness.last->begun + interval;
  if (!readiness.passed_once) {
    const Duration since_start = readiness.last->ended - readiness.started_at;
    due = readiness.last->ended + std::min(StartupCheckInterval(since_start), interval);
  }
  // Never further away than an interval, whatever the times of the last one were.
  return std::clamp(due, now, now + interval);
}

bool WantsRestart(const Readiness& readiness, const ReadinessThresholds& thresholds) {
  if (!thresholds.restart_after || !readiness.passed_once) return false;
  return readiness.failures >=
         std::max(AtLeastOne(*thresholds.restart_after), AtLeastOne(thresholds.failures));
}

Duration StartupCheckInterval(Duration since_start) { return std::max(kClosest, since_start / 20); }

}  // namespace ctr::policy
