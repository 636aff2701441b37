#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <variant>
#include <vector>

#include "agent/base/asio.h"
#include "agent/base/error.h"
#include "agent/model/event.h"
#include "agent/model/instance.h"

namespace ctr {

// Where the next address is taken from: the last one given out, host byte order; 0 if none was.
struct AddressCursors {
  uint32_t instance = 0;
  uint32_t class_ = 0;
};

struct StoredState {
  std::vector<ClassRecord> classes;  // config is only filled in by the caller, from source
  std::vector<InstanceRecord> instances;
  AddressCursors cursors;
  int64_t last_event = 0;  // the number of the newest event; 0: there is none
  // Empty when the state is as the last agent left it. Otherwise why it is not: it was not there,
  // or it was damaged; one line, with where the damaged file was put aside. What can be rebuilt
  // from the containers then has to be.
  std::string lost;
};

// Which events are wanted; they are given the oldest first.
struct EventQuery {
  enum class Pick { kNewest, kOldest };

  InstanceName instance = {};                            // "" parts: of all
  std::vector<std::string> types = {};                   // none: all
  WallTime since = {};                                   // at or after
  int64_t after = 0;                                     // numbers above
  int64_t before = std::numeric_limits<int64_t>::max();  // numbers below
  int limit = 1000;
  Pick pick = Pick::kNewest;  // which of them, if there are more than `limit`

  bool Wants(const Event& event) const {
    return event.number > after && event.number < before && event.at >= since &&
           (types.empty() || std::find(types.begin(), types.end(), event.type) != types.end()) &&
           (instance.class_name.empty() || instance.class_name == event.instance.class_name) &&
           (instance.id.empty() || instance.id == event.instance.id);
  }
};

struct PutClass {
  ClassRecord record;
};
struct DeleteClass {
  std::string name;
};
// Inserts or replaces the row; the observed part is written only when the row is new.
struct PutInstance {
  InstanceRecord record;
};
// Updates the observed part alone; nothing if the row is gone.
struct PutObserved {
  InstanceName name;
  Observed observed;
};
struct DeleteInstance {
  InstanceName name;
};
struct PutCursors {
  AddressCursors cursors;
};
// Adds it. Every so often those beyond kMaxEvents or older than kMaxEventAge go.
struct PutEvent {
  Event event;
};
using Change = std::variant<PutClass, DeleteClass, PutInstance, PutObserved, DeleteInstance,
                            PutCursors, PutEvent>;

// How many events are kept, and how long. A hundred thousand are some 20 MB, which a small disk has
// and a look through all of them takes a fraction of a second; a week is how far back one asks why.
inline constexpr int64_t kMaxEvents = 100'000;
inline constexpr Duration kMaxEventAge = std::chrono::hours(24 * 7);

// The agent's memory across restarts. Called on the control loop; the work is done on the store's
// own thread, in the order of the calls. Changes of one call are one transaction.
class Store {
 public:
  virtual ~Store() = default;

  virtual awaitable<StatusOr<StoredState>> Load() = 0;

  // Of those on disk and those that are still to be written behind.
  virtual awaitable<StatusOr<std::vector<Event>>> ReadEvents(EventQuery query) = 0;

  // Returns once the changes are on disk (synchronous=FULL); commits that wait together share one
  // sync. If it fails, none of them was made. RESOURCE_EXHAUSTED: the disk is full.
  virtual awaitable<Status> Commit(std::vector<Change> changes) = 0;

  // Queues the changes, to be written with the next commit or within a second. A failure is logged
  // and tried again.
  virtual void WriteBehind(std::vector<Change> changes) = 0;
};

}  // namespace ctr
