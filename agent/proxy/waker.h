#pragma once

#include <cstdint>
#include <string>

#include "agent/base/asio.h"
#include "agent/base/error.h"
#include "agent/base/time.h"
#include "agent/model/names.h"
#include "agent/proxy/slot.h"

namespace ctr {

// Whose idea a new ID is: routing owns instance-0 … and creates them itself; a request may where
// the class says so.
enum class WakeOrigin { kRequest, kRoute };

// Requests that a data loop answered with an error of ours.
struct Refusal {
  InstanceName name;    // so far as it is known: "" parts are not
  std::string code;     // Ctr-Error's
  std::string message;  // of the answer
  std::string cause;    // who asked: "GET /x from 10.0.0.1"
  uint64_t times = 1;   // so many alike, of which this is one
};

// The one way from the data loops to control. Called on a data loop, resumes there.
class Waker {
 public:
  virtual ~Waker() = default;

  // `cause` is who asks, for the record: "GET /x from 10.0.0.1". `bytes`: what it keeps in memory
  // while it waits.
  //
  // Returns once the instance is healthy, with the request let in (in flight) and its slot and
  // endpoint. Starts it if it sleeps, waits if it starts or stops; creates it if `origin` allows.
  // Without an ID: whichever of those that routing owns can take it first, the nearest of them.
  // Gives up at `deadline`. Errors carry the ingress's codes: unknown_class, unknown_instance,
  // manual_start, max_instances, overloaded, queue_full, draining, start_failed, start_timeout.
  // Who is cancelled no longer waits, but may yet be let in: that leaves again.
  virtual awaitable<StatusOr<Passage>> EnsureAwake(InstanceName name, WakeOrigin origin,
                                                   MonoTime deadline, std::string cause,
                                                   size_t bytes) = 0;

  // For the record. Never blocks; the loops call it a few times a second at most (RefusalLog).
  virtual void Refused(Refusal refusal) = 0;
};

}  // namespace ctr
