#pragma once

#include <optional>

#include "agent/base/time.h"
#include "agent/model/class_config.h"

namespace ctr::policy {

// One start of an instance that has come to an end by itself.
struct EndView {
  RestartPolicy restart = RestartPolicy::kNever;
  int failures = 0;     // ends in a row that counted, before this one
  bool failed = false;  // it did not become healthy, or exited with another status than 0
  Duration ran = Duration::zero();  // from its process's start to its end
};

struct RestartPlan {
  int failures = 0;  // in a row, with this one
  std::optional<Duration>
      backoff;           // before it no request starts it; none: there is no hurry to fear
  bool restart = false;  // start it again after the backoff, unasked
  bool gave_up = false;  // it would have been restarted, but has failed too often
};

// How long one must have run for its end not to belong to a crash loop: docker's ten seconds.
inline constexpr Duration kSteady = std::chrono::seconds(10);
// on-failure gives up after that many restarts in a row; always never does.
inline constexpr int kMaxRestarts = 10;

// Whether and when an instance is started again. The backoff doubles from 100 ms, docker's first,
// to at most a minute. `always` counts an exit with status 0, too: a program that ends at once is a
// loop whatever its status.
RestartPlan DecideRestart(const EndView& end);

}  // namespace ctr::policy
