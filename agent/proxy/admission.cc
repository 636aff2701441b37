#include "agent/proxy/admission.h"

#include <optional>

#include "absl/strings/str_cat.h"
#include "agent/base/work.h"
#include "agent/proxy/pool.h"

namespace ctr {
namespace {

MonoTime SteadyNow() { return std::chrono::steady_clock::now(); }

// A wake that one request waits for.
struct Wake {
  explicit Wake(const asio::any_io_executor& executor) : done(executor, MonoTime::max()) {}

  asio::steady_timer done;  // never expires: cancelled when there is a result
  asio::cancellation_signal abandoned;
  std::optional<StatusOr<Passage>> result;
};

}  // namespace

WakeOrigin PickInstance(Route& route, MonoTime now, std::mt19937_64& random) {
  if (!route.id.empty()) return WakeOrigin::kRequest;
  const ClassRoute& class_route = *route.class_route;
  if (class_route.policy == RoutePolicy::kNearest) {
    const policy::Choice choice = ChooseSlot(class_route.pool, now, random());
    if (choice.outcome == policy::Choice::Outcome::kChosen) {
      route.slot = class_route.pool[choice.index];
      route.id = route.slot->name().id;
    }
    return WakeOrigin::kRoute;
  }
  route.id = RoutedId(PickRandom(class_route.pool, class_route.route_instances, random));
  if (auto slot = class_route.slots.find(route.id); slot != class_route.slots.end()) {
    route.slot = slot->second;
  }
  return WakeOrigin::kRoute;
}

StatusOr<Passage> TryEnter(const std::shared_ptr<Slot>& slot) {
  if (!slot) return Passage();
  switch (slot->Enter()) {
    case Slot::Entry::kEntered:
      return Passage(slot, slot->endpoint(), &SteadyNow);
    case Slot::Entry::kFull:
      return Error(absl::StatusCode::kUnavailable, code::kOverloaded,
                   absl::StrCat(slot->name().ToString(),
                                " has max_concurrency requests in flight; try again"));
    case Slot::Entry::kClosed:
      break;
  }
  return Passage();
}

// The waker is asked in a coroutine of its own, which outlives a request that is abandoned: it
// works on another thread, where its result may be on its way. What it still lets in leaves again
// with the Wake.
awaitable<StatusOr<Passage>> Admit(LoopContext& loop, Route route, WakeOrigin origin,
                                   MonoTime deadline, std::string cause, size_t bytes) {
  auto wake = std::make_shared<Wake>(loop.executor);
  loop.wakes.fetch_add(1, std::memory_order_relaxed);
  InstanceName name{route.class_route->name, route.id};
  SpawnCancellable(
      loop.executor,
      loop.waker.EnsureAwake(std::move(name), origin, deadline, std::move(cause), bytes),
      {wake, &wake->abandoned},
      [wake, &loop](std::exception_ptr failure, StatusOr<Passage> passage) {
        loop.wakes.fetch_sub(1, std::memory_order_release);
        if (failure) passage = absl::InternalError("waking the instance failed");
        wake->result = std::move(passage);
        wake->done.cancel();
      });
  if (!wake->result) {
    ErrorCode ignored;
    co_await wake->done.async_wait(asio::redirect_error(use_awaitable, ignored));
  }
  if (!wake->result) {
    // The request was cancelled; the next co_await ends it.
    wake->abandoned.emit(asio::cancellation_type::terminal);
    co_return absl::CancelledError("the client went away");
  }
  co_return *std::move(wake->result);
}

}  // namespace ctr
