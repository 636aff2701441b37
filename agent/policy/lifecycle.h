#pragma once

#include <chrono>
#include <optional>

#include "agent/base/time.h"
#include "agent/model/instance.h"

namespace ctr::policy {

// When an instance that is awake goes to sleep.
struct IdleView {
  std::optional<Duration> sleep_after;  // none: never
  bool busy = false;                    // something is in flight now
  MonoTime last_activity;  // end of the newest activity, or the moment it became healthy
  // With connections open that are idle: their tcp_idle, and their last byte.
  std::optional<Duration> tcp_idle = {};
  MonoTime last_tunnel_activity = {};
};

// When an idle instance falls asleep; nothing if it never does. While it is busy the earliest
// moment is a whole sleep_after from `now`, since the activity has yet to end.
std::optional<MonoTime> SleepsAt(const IdleView& view, MonoTime now);

// When to look at the CPU time of an instance with busy_cpu again: a few times before it would
// fall asleep.
Duration CpuSampleInterval(Duration sleep_after);
// Whether an instance that used `cpu_time` in `elapsed` used more than `limit` cores.
bool IsBusy(Duration cpu_time, Duration elapsed, double limit);

// What the supervisor does next with one instance. The steps that take time (a start, a stop) are
// performed whole before the policy is asked again.
enum class Step {
  kNone,
  kStart,        // acquire, create, start
  kMarkHealthy,  // open the gate
  kFailStart,    // start_timeout passed: tear it down
  kReap,         // the process ended by itself: record why
  kSleep,
  kStop,    // drain, signal, kill
  kKill,    // it is to be destroyed
  kForget,  // destroyed and gone: delete the row
};

struct LifecycleView {
  State state = State::kStopped;
  bool start_wanted = false;  // somebody waits for it, or asked without waiting
  bool stop_wanted = false;
  bool destroy_wanted = false;
  bool start_blocked = false;          // an earlier container of it may still live
  bool end_blocked = false;            // one of its containers is still being removed
  std::optional<MonoTime> restart_at;  // while kStopped: when it is to be started again
  bool exited = false;                 // the process has ended
  bool listening = false;              // every required port listens; looked at while kRunning
  MonoTime started_at;                 // when the process was started; while kRunning
  MonoTime start_deadline;             // while kRunning
  IdleView idle;                       // while kHealthy
  std::optional<MonoTime> look_at;     // while kHealthy: when to look at its CPU time again
};

struct LifecyclePlan {
  Step step = Step::kNone;
  std::optional<MonoTime> check_at;  // with kNone: look again then, or when nudged
};

LifecyclePlan DecideLifecycle(const LifecycleView& view, MonoTime now);

// How long to wait before looking at the listening sockets again: a look costs 13 µs, and a port
// must be noticed within 5 ms of opening. Closely at first, when most servers open theirs.
Duration ProbeInterval(Duration since_start);

}  // namespace ctr::policy
