#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "agent/base/time.h"
#include "agent/model/event.h"

namespace ctr::policy {

// Keeps what happens again and again from driving everything else out of the event log. Of the
// types that repeat by their nature (refused, renewed, hook_failed …) the first event of a kind is
// told at once; its repetitions within kWindow are counted, and told as one event at the window's
// end. A kind is type, instance, generation and message; of `refused` only the code that its
// message begins with, as the rest may name what a client made up, and of `disk_low` none of it.
// Steps of an instance's life are never held back. A value; one thread.
class EventCoalescer {
 public:
  static constexpr Duration kWindow = std::chrono::seconds(10);
  // Kinds that are told apart at a time, which bounds the memory and, at an event and a count of
  // the rest for each, what a flood of ever new kinds can make of events. Those beyond are counted
  // together.
  static constexpr size_t kMaxKinds = 256;

  // The event, which stands for `times` of its kind, if it is to be recorded now; nothing if it was
  // counted.
  std::optional<Event> Add(Event event, uint64_t times, MonoTime now);

  // The counts of the windows that have ended.
  std::vector<Event> TakeDue(MonoTime now);
  // The counts of all windows: nothing comes after.
  std::vector<Event> TakeAll() { return TakeDue(MonoTime::max()); }

  // When TakeDue has something to give; nothing if it has not, as things are.
  std::optional<MonoTime> next_due() const;

 private:
  using Kind = std::tuple<std::string, InstanceName, uint64_t, std::string>;
  struct Window {
    MonoTime end;
    uint64_t more = 0;  // since it began, or since they were told last
    Event newest;       // of those
  };

  static Kind KindOf(const Event& event);
  void DropEnded(MonoTime now);

  std::map<Kind, Window> windows_;
};

}  // namespace ctr::policy
