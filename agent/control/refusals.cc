// What the data loops and routing refuse, as events.
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/control/supervisor.h"

namespace ctr {

// From a data loop. A client may have made up the name: an ID that nobody knows is an event of its
// class, or else every scan would make events of ever new instances.
void Supervisor::Refused(Refusal refusal) {
  asio::post(executor_, [this, refusal = std::move(refusal)]() mutable {
    Event event{.type = event::kRefused,
                .instance = std::move(refusal.name),
                .message = absl::StrCat(refusal.code, ": ", refusal.message),
                .cause = std::move(refusal.cause)};
    if (auto found = instances_.find(event.instance); found == instances_.end()) {
      event.instance.id.clear();
      if (!classes_.contains(event.instance.class_name)) event.instance = {};
    }
    events_.Record(std::move(event), refusal.times);
  });
}

}  // namespace ctr
