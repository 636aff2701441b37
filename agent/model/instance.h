#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/time.h"
#include "agent/model/class_config.h"
#include "agent/model/names.h"

namespace ctr {

enum class State {
  kStopped,
  kStarting,  // being created, or in the start queue
  kRunning,   // process up, not yet or no longer healthy
  kHealthy,   // started and its required ports listen
  kFrozen,
  kStopping,
};

enum class StopReason {
  kNeverStarted,
  kRequested,
  kSlept,
  kExited,
  kOomKilled,
  kDiskFull,
  kStartFailed,
  kHostLost,
};

std::string_view ToString(State state);
std::string_view ToString(StopReason reason);
// Nothing for a text that ToString does not give.
std::optional<State> ParseState(std::string_view text);
std::optional<StopReason> ParseStopReason(std::string_view text);

// Whether the state machine of design section 2 allows the step. Same to same is no transition.
bool CanTransition(State from, State to);

// What a user asked for, last. Sleeping and waking do not change it.
enum class Desired { kRunning, kStopped, kDestroyed };

// What is known of an instance beyond what was asked for; written behind, and rebuilt from
// containerd's labels.
struct Observed {
  State state = State::kStopped;
  StopReason reason = StopReason::kNeverStarted;  // meaningful while stopped
  std::optional<int> exit_code;
  std::string message;       // of start_failed and the like: one line
  uint64_t generation = 0;   // count of starts
  std::string container_id;  // of the newest start; "" if none
  std::string revision;      // the class's revision that it was started with
  WallTime since;            // of the state
  int failures = 0;  // starts in a row that failed or ended too soon; beyond one: a crash loop
  std::optional<WallTime> next_start;  // when the restart is due, while stopped
};

// A durable row: an ID that is known.
struct InstanceRecord {
  InstanceName name;
  uint32_t address = 0;  // IPv4 out of the instance range, host byte order; stable for its life
  std::map<std::string, std::string> env;  // given with `-e`, kept for every later start
  std::optional<std::vector<std::string>> entrypoint;  // given with --entrypoint, kept likewise
  std::optional<std::vector<std::string>> command;     // of `ctr run`: replaces the image's command
  Desired desired = Desired::kRunning;
  WallTime created_at;
  Observed observed;
};

// A durable row: a class that was applied.
struct ClassRecord {
  ClassConfig config;
  std::string source;    // the file's text, from which config is parsed again at the next start
  uint32_t address = 0;  // IPv4 out of the class range, host byte order
  WallTime applied_at;
};

}  // namespace ctr
