#include "agent/proxy/approach.h"

#include <array>
#include <utility>

#include "agent/proxy/admission.h"
#include "agent/proxy/pool.h"

namespace ctr {
namespace {

// An instance that refuses connections has just died, and control is about to notice; or its
// program does not listen on that port. Tells the two apart soon enough for the latter.
constexpr std::array<Duration, 3> kRefusedBackoff = {
    std::chrono::milliseconds(10), std::chrono::milliseconds(50), std::chrono::milliseconds(200)};

}  // namespace

void Approach::Begin(Route route) {
  route_ = std::move(route);
  by_policy_ = route_.id.empty() && route_.class_route->policy == RoutePolicy::kNearest;
  Pick();
  hold_until_ = loop_.clock.Now() + route_.class_route->hold_timeout;
}

void Approach::Pick() {
  origin_ = PickInstance(route_, loop_.clock.Now(), loop_.random);
  name_ = {route_.class_route->name, route_.id};
}

// One that is full is no answer where there may be others, and those who wait already go first.
StatusOr<Passage> Approach::EnterNow() {
  if (by_policy_ && route_.slot && route_.slot->queued()) return Passage();
  StatusOr<Passage> passage = TryEnter(route_.slot);
  if (!passage.ok() && by_policy_) return Passage();
  return passage;
}

StatusOr<bool> Approach::TryReach(Wish wish) {
  CTR_ASSIGN_OR_RETURN(passage_, EnterNow());
  if (passage_.slot() && passage_.endpoint()) {
    CTR_RETURN_IF_ERROR(SettlePort());
    return TakeKept(wish);
  }
  passage_ = Passage();
  return false;
}

awaitable<Status> Approach::Reach(Wish wish, Cause cause) {
  for (size_t attempt = 0;; ++attempt) {
    CTR_CO_RETURN_IF_ERROR(co_await Enter(wish, cause));
    Status connected = co_await Connect(wish);
    if (connected.ok() || attempt == kRefusedBackoff.size()) co_return connected;
    // What the agent lacks is no fault of the instance, and another one would need it, too.
    if (ErrorCodeOf(connected) == code::kOverloaded) co_return connected;
    // Out of the gate, so that control can close it.
    const std::shared_ptr<Slot> refused = passage_.slot();
    Leave(Connection::kClose);
    if (by_policy_) {
      const MonoTime now = loop_.clock.Now();
      refused->load().latency.SampleFailure(Duration::zero(), now);
      NoteOutcome(route_.class_route->pool, *refused, true, now);
      route_.id.clear();
      route_.slot = nullptr;
      Pick();
      if (route_.slot != nullptr && route_.slot != refused) continue;
    }
    co_await loop_.clock.SleepUntil(loop_.clock.Now() + kRefusedBackoff[attempt]);
  }
}

awaitable<Status> Approach::Enter(Wish wish, Cause cause) {
  if (passage_.slot()) co_return absl::OkStatus();
  CTR_CO_ASSIGN_OR_RETURN(passage_, EnterNow());
  if (!passage_.slot() || !passage_.endpoint()) {
    passage_ = Passage();
    if (by_policy_) route_.id.clear();
    const MonoTime begin = loop_.clock.Now();
    CTR_CO_ASSIGN_OR_RETURN(
        passage_, co_await Admit(loop_, route_, origin_, hold_until_, cause(), wish.bytes));
    waited_ += loop_.clock.Now() - begin;
    if (by_policy_) {
      route_.slot = passage_.slot();
      route_.id = name_.id = route_.slot->name().id;
    }
  }
  co_return SettlePort();
}

Status Approach::SettlePort() {
  port_ = route_.port;
  const ClassConfig* const started = passage_.endpoint()->config.get();
  if (started == nullptr) return absl::OkStatus();
  CTR_ASSIGN_OR_RETURN(port_, PortOn(route_, name_.id, *started, loop_.routes.Newest()));
  return absl::OkStatus();
}

bool Approach::TakeKept(Wish wish) {
  upstream_ = nullptr;
  if (wish.pooled) {
    upstream_ =
        loop_.upstreams.Take(passage_.endpoint(), port_, loop_.clock.Now(), wish.can_send_again);
  }
  reused_ = upstream_ != nullptr;
  return reused_;
}

awaitable<Status> Approach::Connect(Wish wish) {
  if (TakeKept(wish)) co_return absl::OkStatus();
  CTR_CO_ASSIGN_OR_RETURN(upstream_, co_await Dial(loop_.poller, passage_.endpoint(), port_,
                                                   loop_.limits.dial_timeout));
  co_return absl::OkStatus();
}

void Approach::Sent() {
  Unsaid();
  if (route_.class_route->policy != RoutePolicy::kNearest) return;
  sent_at_ = loop_.clock.Now();
  followed_ = passage_.slot()->load().waiting.Begin(*sent_at_);
}

void Approach::Answered(int status) {
  Learn(policy::IsFailure(status), policy::IsGatewayFailure(status));
}

void Approach::Failed() { Learn(true, true); }

void Approach::Learn(bool failed, bool gateway_failure) {
  if (!sent_at_ || !passage_.slot()) return Unsaid();
  const MonoTime now = loop_.clock.Now();
  Slot& slot = *passage_.slot();
  const Duration took = now - *sent_at_;
  if (failed) {
    slot.load().latency.SampleFailure(took, now);
  } else {
    slot.load().latency.Sample(took, now);
  }
  NoteOutcome(route_.class_route->pool, slot, gateway_failure, now);
  Unsaid();
}

void Approach::Unsaid() {
  if (sent_at_ && followed_ && passage_.slot()) passage_.slot()->load().waiting.End();
  sent_at_.reset();
  followed_ = false;
}

void Approach::Leave(Connection connection) {
  Unsaid();
  const std::shared_ptr<Slot> slot = passage_.slot();
  passage_ = Passage();
  if (connection == Connection::kKeep) {
    loop_.upstreams.Put(slot, std::move(upstream_), loop_.clock.Now());
  }
  upstream_ = nullptr;
}

}  // namespace ctr
