#include "agent/control/event_log.h"

#include <utility>

namespace ctr {

void EventLog::Record(Event event) {
  event.number = ++newest_;
  event.at = clock_.Wall();
  store_.WriteBehind({PutEvent{std::move(event)}});
}

}  // namespace ctr
