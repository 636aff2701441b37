#pragma once

#include <exception>
#include <memory>
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

// Runs `task` on `executor`; `signal` cancels it, and `done` takes its outcome. Keeps what `signal`
// lies in also while `done` runs, when the coroutine still refers to it.
template <typename T, typename Done>
void SpawnCancellable(const asio::any_io_executor& executor, awaitable<T> task,
                      std::shared_ptr<asio::cancellation_signal> signal, Done done) {
  const asio::cancellation_slot slot = signal->slot();
  asio::co_spawn(executor, std::move(task),
                 asio::bind_cancellation_slot(
                     slot, [executor, signal = std::move(signal), done = std::move(done)](
                               std::exception_ptr failure, T result) mutable {
                       done(failure, std::move(result));
                       asio::post(executor, [signal = std::move(signal)] {});
                     }));
}

// Runs `task` on another executor, and resumes on the caller's with its result. A caller that is
// cancelled passes that on, and waits for what `task` makes of it. (Of a plain co_spawn the signal
// lies in the caller's frame, and Boost 1.81 emits it from the other thread, where it may be gone.)
template <typename T>
awaitable<T> RunOn(asio::any_io_executor executor, awaitable<T> task) {
  auto run = [executor](auto handler, awaitable<T> body) {
    auto signal = std::make_shared<asio::cancellation_signal>();
    auto slot = asio::get_associated_cancellation_slot(handler);
    auto home = asio::get_associated_executor(handler);
    auto waiting = std::make_shared<decltype(handler)>(std::move(handler));
    if (slot.is_connected()) {
      slot.assign([signal, executor](asio::cancellation_type type) {
        asio::post(executor, [signal, type] { signal->emit(type); });
      });
    }
    auto resume = [signal, slot, home, waiting](std::exception_ptr exception, T result) {
      asio::post(home, [slot, waiting, exception, result = std::move(result)]() mutable {
        if (slot.is_connected()) slot.clear();
        std::move (*waiting)(exception, std::move(result));
      });
    };
    asio::co_spawn(executor, std::move(body),
                   asio::bind_cancellation_slot(signal->slot(), std::move(resume)));
  };
  co_return co_await asio::async_initiate<decltype(use_awaitable), void(std::exception_ptr, T)>(
      run, use_awaitable, std::move(task));
}

}  // namespace ctr
