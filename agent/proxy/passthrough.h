#pragma once

#include <string>

#include "agent/proxy/approach.h"
#include "agent/proxy/client_watch.h"
#include "agent/proxy/tunnel.h"

namespace ctr {

// A client's connection whose bytes go to the instance as they are: to a TCP port, or HTTP/2 to one
// of HTTP. Wakes the instance first; until then what the client sends waits in the kernel. Owned by
// its session's coroutine.
class Passthrough final : public Served {
 public:
  Passthrough(LoopContext& loop, Stream& client, std::string_view peer)
      : loop_(loop), client_(client), peer_(peer), approach_(loop), begin_(loop.clock.Now()) {}
  ~Passthrough() { Account(); }
  Passthrough(const Passthrough&) = delete;

  // Once. Where the instance can't be reached the client sees a reset, and the record says why.
  awaitable<void> Run(Route route);
  void Fail(const Status& error);

  bool Sweep(MonoTime now) override;
  bool IsIdle(MonoTime now) const override { return tunnel_ && tunnel_->IsIdle(now); }

 private:
  std::string Cause() const;
  void Account();

  LoopContext& loop_;
  Stream& client_;
  const std::string_view peer_;
  Approach approach_;
  const MonoTime begin_;
  std::string error_;  // its code
  std::shared_ptr<Tunnel> tunnel_;
  ClientWatch watch_;
};

}  // namespace ctr
