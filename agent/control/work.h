#pragma once

#include <exception>
#include <string>
#include <utility>

#include "agent/base/asio.h"
#include "agent/base/error.h"
#include "spdlog/spdlog.h"

namespace ctr {

// Runs `task` on `executor`, never within the call. An exception that leaves it is a bug: it ends
// the process, which the next start recovers.
inline void SpawnOrDie(asio::any_io_executor executor, awaitable<void> task, std::string what) {
  auto on_end = [what = std::move(what)](std::exception_ptr exception) {
    if (!exception) return;
    try {
      std::rethrow_exception(exception);
    } catch (const std::exception& error) {
      spdlog::critical("{}: {}", what, error.what());
      std::abort();
    }
  };
  asio::post(executor, [executor, task = std::move(task), on_end = std::move(on_end)]() mutable {
    asio::co_spawn(executor, std::move(task), std::move(on_end));
  });
}

// Whether the coroutine may be cancelled from here on. A caller that goes away must not cut a
// change in two: changes run with cancellation off, waits turn it on for as long as they last.
inline awaitable<void> AllowCancellation(bool allow) {
  if (allow) {
    co_await asio::this_coro::reset_cancellation_state(asio::enable_terminal_cancellation());
  } else {
    co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
  }
}

// Runs the blocking `function` on the work pool; resumes on the caller's executor with what it
// returned. A caller that is cancelled meanwhile learns it at its next co_await: work that runs on
// another thread is not interrupted.
template <typename Function>
awaitable<std::invoke_result_t<Function>> OnWork(asio::any_io_executor pool, Function function) {
  using Result = std::invoke_result_t<Function>;
  co_return co_await asio::co_spawn(
      pool, [](Function body) -> awaitable<Result> { co_return body(); }(std::move(function)),
      asio::bind_cancellation_slot(asio::cancellation_slot(), use_awaitable));
}

}  // namespace ctr
