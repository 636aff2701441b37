#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "agent/base/time.h"
#include "agent/model/names.h"

namespace ctr {

// What an event is about; the word in `type` of `ctr events`.
namespace event {
// Of an instance's life.
inline constexpr char kCreated[] = "created";
inline constexpr char kWake[] = "wake";          // asked for a start: by which request or verb
inline constexpr char kStarting[] = "starting";  // a start permit and a generation are there
inline constexpr char kRunning[] = "running";    // its process is up
inline constexpr char kHealthy[] = "healthy";
inline constexpr char kStopping[] = "stopping";
inline constexpr char kStopped[] = "stopped";  // by request
inline constexpr char kSlept[] = "slept";
inline constexpr char kKilled[] = "killed";  // SIGKILL after the grace
inline constexpr char kExited[] = "exited";  // by itself
inline constexpr char kOomKilled[] = "oom_killed";
inline constexpr char kStartFailed[] = "start_failed";
inline constexpr char kRestart[] = "restart";  // due after a backoff
inline constexpr char kGaveUp[] = "gave_up";   // no further restarts
inline constexpr char kAdopted[] = "adopted";  // taken over from an earlier agent
inline constexpr char kLost[] = "lost";        // its container is gone, nobody knows how
inline constexpr char kRenewed[] = "renewed";
inline constexpr char kStayedAwake[] = "stayed_awake";  // busy, or its hook said so
inline constexpr char kHook[] = "hook";
inline constexpr char kHookFailed[] = "hook_failed";
inline constexpr char kExec[] = "exec";
inline constexpr char kCopy[] = "copy";                   // of files, in or out
inline constexpr char kRefused[] = "refused";             // a request that was not let in
inline constexpr char kInternetLost[] = "internet_lost";  // cut off, as nothing would hold it back
inline constexpr char kInternetBack[] = "internet_back";
inline constexpr char kDestroyed[] = "destroyed";
// Of a class.
inline constexpr char kClassApplied[] = "class_applied";
inline constexpr char kClassRemoved[] = "class_removed";
inline constexpr char kClassUnread[] = "class_unread";  // what is kept of it can't be read
inline constexpr char kScaled[] = "scaled";    // its instances: how many there are to be, and why
inline constexpr char kTraffic[] = "traffic";  // what came to it in a minute
// Of images.
inline constexpr char kImagePulled[] = "image_pulled";
inline constexpr char kImageRemoved[] = "image_removed";  // pruned
// Of what routing thinks of an instance.
inline constexpr char kOverloaded[] = "overloaded";
inline constexpr char kRelieved[] = "relieved";  // no longer overloaded
inline constexpr char kEjected[] = "ejected";    // gets no requests for a while
inline constexpr char kLimited[] = "limited";    // the kernel held it to its limits
inline constexpr char kUnready[] = "unready";    // its readiness check fails
inline constexpr char kReady[] = "ready";        // passes it again
// Of the agent.
inline constexpr char kAgentStarted[] = "agent_started";
inline constexpr char kAgentStopped[] = "agent_stopped";
inline constexpr char kRuntimeBack[] = "runtime_back";
inline constexpr char kStateRebuilt[] = "state_rebuilt";
inline constexpr char kDiskFull[] = "disk_full";
inline constexpr char kDiskRoom[] = "disk_room";
inline constexpr char kDiskLow[] = "disk_low";  // of what instances write to
inline constexpr char kRemoved[] = "removed";   // something left over that was ours

inline constexpr const char* kAll[] = {
    kCreated,     kWake,         kStarting,     kRunning,      kHealthy,      kStopping,
    kImagePulled, kImageRemoved, kStopped,      kSlept,        kKilled,       kExited,
    kOomKilled,   kStartFailed,  kRestart,      kGaveUp,       kAdopted,      kLost,
    kRenewed,     kStayedAwake,  kHook,         kHookFailed,   kExec,         kCopy,
    kRefused,     kDestroyed,    kClassApplied, kClassRemoved, kAgentStarted, kAgentStopped,
    kRuntimeBack, kStateRebuilt, kDiskFull,     kDiskRoom,     kRemoved,      kScaled,
    kOverloaded,  kRelieved,     kEjected,      kUnready,      kReady,        kTraffic,
    kDiskLow,     kLimited,      kInternetLost, kInternetBack, kClassUnread};
}  // namespace event

// Something that happened. A row of the store, bounded by age and count.
struct Event {
  int64_t number =
      0;  // ascending over the agent's life, also over restarts; given by the event log
  WallTime at = {};
  std::string type = {};       // one of namespace event
  InstanceName instance = {};  // class_name alone: of a class; both "": of the agent
  uint64_t generation = 0;     // of the instance then; 0 if it has none
  std::string message = {};    // a sentence for a person, without the instance's name
  std::string cause =
      {};  // who or what brought it about: "GET /x from 10.0.0.1", "ctr stop by root"
  std::optional<int> exit_code = {};
};

}  // namespace ctr
