#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/base/asio.h"
#include "agent/base/error.h"

namespace ctr {

// Runs `work` to its end whatever becomes of the caller, so that what it makes is never left half
// made. A caller that is cancelled gets CANCELLED at once, and `discard` the result when it comes.
// An exception in `work` is INTERNAL. `Result` is Status or a StatusOr; the executor is a single
// loop.
template <typename Result>
awaitable<Result> Shielded(awaitable<Result> work, std::function<void(Result)> discard) {
  struct State {
    std::optional<Result> result;
    std::function<void()> resume;
    bool abandoned = false;
  };
  auto state = std::make_shared<State>();
  auto executor = co_await asio::this_coro::executor;
  asio::co_spawn(
      executor, std::move(work),
      [state, discard = std::move(discard)](std::exception_ptr exception, Result result) {
        if (exception != nullptr) result = absl::InternalError("an exception in the runtime");
        if (state->abandoned) return discard(std::move(result));
        state->result = std::move(result);
        if (auto resume = std::exchange(state->resume, nullptr)) resume();
      });

  auto wait = [state](auto handler) {
    auto slot = asio::get_associated_cancellation_slot(handler);
    auto handler_executor = asio::get_associated_executor(handler);
    auto shared_handler = std::make_shared<decltype(handler)>(std::move(handler));
    state->resume = [shared_handler, handler_executor, slot] {
      asio::post(handler_executor, [shared_handler, slot]() mutable {
        if (slot.is_connected()) slot.clear();
        std::move (*shared_handler)();
      });
    };
    if (state->result.has_value()) return std::exchange(state->resume, nullptr)();
    if (!slot.is_connected()) return;
    slot.assign([state](asio::cancellation_type) {
      auto resume = std::exchange(state->resume, nullptr);
      if (resume == nullptr) return;
      state->abandoned = true;
      resume();
    });
  };
  co_await asio::async_initiate<decltype(use_awaitable), void()>(wait, use_awaitable);
  if (!state->result.has_value()) co_return absl::CancelledError("cancelled");
  co_return *std::move(state->result);
}

}  // namespace ctr
