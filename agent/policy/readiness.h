#pragma once

#include <optional>

#include "agent/base/time.h"

namespace ctr::policy {

// When a class's readiness check is made and what its results mean. The words and the defaults of
// [readiness]; thresholds below one count as one.
struct ReadinessThresholds {
  Duration interval = std::chrono::seconds(1);  // from one check's begin to the next one's
  Duration timeout = std::chrono::seconds(1);
  int failures = 3;                       // in a row: out of routing
  int successes = 1;                      // in a row: in
  std::optional<int> restart_after = {};  // failures in a row; none: never. Not before it is out
};

struct Check {
  enum class Result { kPassed, kFailed, kTimedOut } result = Result::kFailed;
  MonoTime begun;
  MonoTime ended;
};

// What the checks of one start of an instance have said so far. A value; a new start has a new one.
struct Readiness {
  MonoTime started_at;        // when the process was started
  MonoTime awake_since;       // the same, or the last thaw: checks begun before it say nothing
  bool passing = false;       // to be routed to, as far as the check is concerned
  bool passed_once = false;   // the start is over
  int successes = 0;          // in a row
  int failures = 0;           // in a row
  std::optional<Check> last;  // none since awake_since: the next one is due at once
};

Readiness NewReadiness(MonoTime started_at);
// A thawed instance keeps what it was, and is checked at once; what was under way when it froze has
// nothing to say.
Readiness AfterThaw(Readiness readiness, MonoTime now);

// With one more result.
Readiness WithCheck(Readiness readiness, const Check& check, const ReadinessThresholds& thresholds);

// When the next check is to begin, `now` at the earliest; ask when none is under way. Nothing while
// it is not awake: a check must not wake it, and a frozen one could not answer. Until the first
// success checks follow each other closely, so that a start is not prolonged by them.
std::optional<MonoTime> NextCheckAt(const Readiness& readiness,
                                    const ReadinessThresholds& thresholds, bool awake,
                                    MonoTime now);

// Whether so many checks have failed in a row that the class wants it restarted. Only after it has
// passed once: before that start_timeout decides.
bool WantsRestart(const Readiness& readiness, const ReadinessThresholds& thresholds);

// How long after a check that failed during the start the next one begins. At least 5 ms, since a
// check is a connection, not a look at a table as of the listening sockets (ProbeInterval), and
// else a twentieth of the time since the start: readiness is noticed late by 5 % of the start at
// most.
Duration StartupCheckInterval(Duration since_start);

}  // namespace ctr::policy
