#pragma once

#include "agent/base/time.h"
#include "agent/proxy/stream.h"

namespace ctr {

// What a session is doing for its client. Home: its data loop.
class Served {
 public:
  // Now and then. False if it is to be ended: the client, or what it is for, is gone.
  virtual bool Sweep(MonoTime now) = 0;
  // Whether a drain need not wait for it.
  virtual bool IsIdle(MonoTime) const { return false; }

 protected:
  ~Served() = default;
};

// Tells clients that are gone from those that have only closed their side, or are slow.
class ClientWatch {
 public:
  // Asked now and then. `half_closed`: how long one that has closed its side is served on while
  // nothing is sent to it; `stall`: how long one that takes no more is waited for.
  bool IsGone(Stream& client, Duration half_closed, Duration stall, MonoTime now);

 private:
  uint64_t sent_ = 0;      // to the client
  bool doubtful_ = false;  // it has closed its side, or takes no more
  MonoTime progress_at_;   // when one of the two changed
};

}  // namespace ctr
