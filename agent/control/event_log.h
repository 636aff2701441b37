#pragma once

#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/model/event.h"
#include "agent/policy/event_coalescer.h"
#include "agent/store/store.h"

namespace ctr {

// Some of the log's events, in order.
struct EventPage {
  std::vector<Event> events;
  bool cut = false;  // there are more that the limit left out
  // Every event up to this number was looked at: a follower goes on after it.
  int64_t seen = 0;
};

// What happens, in order. Owned by the supervisor; home: the control loop. Store, clock and
// executor outlive it.
class EventLog {
 public:
  EventLog(Store& store, Clock& clock, asio::any_io_executor executor);
  EventLog(const EventLog&) = delete;

  // After the state was loaded, before the first Record: numbers go on above `last_number`, the
  // newest in the store, and above all that were ever shown.
  void Resume(int64_t last_number);

  // Gives it its number and time, and writes it behind. It stands for `times` of its kind; what is
  // repeated within seconds is counted instead (policy::EventCoalescer), and told later.
  void Record(Event event, uint64_t times = 1);
  // Tells what was counted and not told yet: the agent ends.
  void TellCounted();

  // What `query` wants of everything recorded so far, written or not: the newest events come from
  // memory, the others from the store, and none from both.
  awaitable<StatusOr<EventPage>> Read(EventQuery query);

  // Returns once an event above `number` was recorded, or the log is closed; at once if so. May be
  // cancelled.
  awaitable<void> AwaitNewer(int64_t number);
  // The agent ends: who follows is not to wait for more.
  void Close();
  bool closed() const { return closed_; }

  int64_t newest() const { return newest_; }

 private:
  void Append(Event event);
  static awaitable<void> TellLater(std::shared_ptr<EventLog*> log);

  Store& store_;
  Clock& clock_;
  const asio::any_io_executor executor_;

  int64_t newest_ = 0;
  bool closed_ = false;
  std::deque<Event> tail_;  // the newest, without a gap
  policy::EventCoalescer coalescer_;
  std::list<Alarm*> followers_;
  std::shared_ptr<EventLog*> self_;  // of TellLater, while it waits
};

}  // namespace ctr
