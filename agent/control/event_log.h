#pragma once

#include <cstdint>
#include <string>

#include "agent/base/clock.h"
#include "agent/model/event.h"
#include "agent/store/store.h"

namespace ctr {

// What happens, in order. Owned by the supervisor; home: the control loop. Store and clock outlive
// it.
class EventLog {
 public:
  EventLog(Store& store, Clock& clock) : store_(store), clock_(clock) {}

  // After the state was loaded: numbers go on from here.
  void Resume(int64_t last_number) { newest_ = last_number; }

  // Gives it its number and time, and writes it behind.
  void Record(Event event);

  int64_t newest() const { return newest_; }

 private:
  Store& store_;
  Clock& clock_;
  int64_t newest_ = 0;
};

}  // namespace ctr
