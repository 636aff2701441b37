#include "agent/control/waker_relay.h"

#include <exception>
#include <optional>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "agent/base/work.h"

namespace ctr {
namespace {

// What the waker here has been asked. Its answer may come when nobody waits for it any more: what
// it lets in leaves again.
struct Asked {
  explicit Asked(std::unique_ptr<Alarm> of_waiter) : alarm(std::move(of_waiter)) {}

  const std::unique_ptr<Alarm> alarm;
  asio::cancellation_signal abandoned;
  std::optional<StatusOr<Passage>> answer;
};

}  // namespace

void WakerRelay::Release() {
  held_ = false;
  RingAll();
}

void WakerRelay::PassOn(Ask there) {
  there_ = std::move(there);
  held_ = false;
  RingAll();
}

void WakerRelay::RingAll() {
  for (Alarm* waiting : waiting_) waiting->Ring();
}

awaitable<StatusOr<Passage>> WakerRelay::EnsureAwake(InstanceName name, WakeOrigin origin,
                                                     MonoTime deadline, std::string cause,
                                                     size_t bytes) {
  return RunOn(control_, AskInTurn(std::move(name), origin, deadline, std::move(cause), bytes));
}

awaitable<StatusOr<Passage>> WakerRelay::AskInTurn(InstanceName name, WakeOrigin origin,
                                                   MonoTime deadline, std::string cause,
                                                   size_t bytes) {
  auto asked = std::make_shared<Asked>(clock_.MakeAlarm(control_));
  waiting_.insert(asked->alarm.get());
  const auto removed = absl::MakeCleanup([&] { waiting_.erase(asked->alarm.get()); });
  while (held_) {
    if (clock_.Now() >= deadline) {
      co_return Error(absl::StatusCode::kDeadlineExceeded, code::kStartTimeout,
                      absl::StrCat(name.ToString(),
                                   " was not healthy in time: the agent is being "
                                   "replaced"));
    }
    co_await asked->alarm->WaitUntil(deadline);
  }
  if (!there_) {
    SpawnCancellable(control_, here_.EnsureAwake(name, origin, deadline, cause, bytes),
                     {asked, &asked->abandoned},
                     [asked](std::exception_ptr failure, StatusOr<Passage> answer) {
                       if (failure) answer = absl::InternalError("waking the instance failed");
                       asked->answer = std::move(answer);
                       asked->alarm->Ring();
                     });
    while (!asked->answer && !there_) {
      co_await asked->alarm->WaitUntil(MonoTime::max());
      // Of a request that is cancelled the next co_await ends this, and not what was asked.
      const auto cancelled = (co_await asio::this_coro::cancellation_state).cancelled();
      if (cancelled != asio::cancellation_type::none) asked->abandoned.emit(cancelled);
    }
    if (asked->answer && (asked->answer->ok() || !there_)) co_return *std::move(asked->answer);
  }
  co_return co_await there_(std::move(name), origin, deadline, std::move(cause), bytes);
}

}  // namespace ctr
