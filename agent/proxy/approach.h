#pragma once

#include <optional>
#include <string>

#include "absl/functional/function_ref.h"
#include "agent/proxy/loop_context.h"

namespace ctr {

// The way of one request, or of one connection, into its instance: through the gate, waking it
// first if need be, to a connection to the port. In flight (Passage) from then on. Owned by a
// coroutine of its loop.
class Approach {
 public:
  explicit Approach(LoopContext& loop) : loop_(loop) {}
  ~Approach() { Unsaid(); }
  Approach(const Approach&) = delete;

  // Who asks, for the record of a wake.
  using Cause = absl::FunctionRef<std::string()>;

  // Settles where it goes: picks the instance where the class's policy does. Once, first.
  void Begin(Route route);
  // What it goes to; "" parts before Begin.
  const InstanceName& name() const { return name_; }
  // Where it is counted; null before Begin.
  Traffic* traffic() const {
    return route_.class_route ? route_.class_route->traffic.get() : nullptr;
  }

  // Of the class; once begun.
  std::optional<Duration> response_timeout() const { return route_.class_route->response_timeout; }

  // Connects, by a kept connection if `pooled`. `can_send_again`: what it is for may be sent twice.
  // An instance that refuses connections is about to be taken for dead: a few attempts are made,
  // each through the gate. Errors carry the ingress's codes.
  struct Wish {
    bool pooled = true;
    bool can_send_again = false;
    size_t bytes = 0;  // that are kept in memory until then
  };
  awaitable<Status> Reach(Wish wish, Cause cause);
  // The same where nothing has to be waited for; false: Reach must be asked.
  StatusOr<bool> TryReach(Wish wish);

  const Passage& passage() const { return passage_; }
  const UpstreamPtr& upstream() const { return upstream_; }
  bool reused() const { return reused_; }  // the connection was a kept one
  Duration waited() const { return waited_; }

  // What the choice among a class's instances learns from: the request is sent now; it is answered
  // with that status, or the instance has failed it; or nothing can be said of it.
  void Sent();
  void Answered(int status);
  void Failed();
  void Unsaid();

  // Out of the instance; the connection is kept for the next request, or closed.
  enum class Connection { kKeep, kClose };
  void Leave(Connection connection);

 private:
  void Pick();
  StatusOr<Passage> EnterNow();
  void Learn(bool failed, bool gateway_failure);
  awaitable<Status> Enter(Wish wish, Cause cause);
  awaitable<Status> Connect(Wish wish);
  bool TakeKept(Wish wish);
  // Once it was let in.
  Status SettlePort();

  LoopContext& loop_;
  Route route_;
  bool by_policy_ = false;  // the class's, which may pick another one
  InstanceName name_;
  WakeOrigin origin_ = WakeOrigin::kRequest;
  MonoTime hold_until_;
  Passage passage_;
  uint16_t port_ = 0;  // of the instance that it was let into
  UpstreamPtr upstream_;
  bool reused_ = false;
  Duration waited_{0};               // for wakes
  std::optional<MonoTime> sent_at_;  // a request that is not answered yet
  bool followed_ = false;            // by the slot's InFlightWatch
};

}  // namespace ctr
