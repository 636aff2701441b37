#include "agent/control/state_watch.h"

#include <utility>

namespace ctr {

StateWatch::StateWatch(asio::any_io_executor executor, std::shared_ptr<Instance> instance,
                       std::function<bool(const Instance&)> reached,
                       std::function<void(const Instance&)> then, Alarm* alarm)
    : state_(std::make_shared<State>()) {
  state_->alarm = alarm;
  state_->then = std::move(then);
  asio::co_spawn(
      std::move(executor), Run(state_, std::move(instance), std::move(reached)),
      asio::bind_cancellation_slot(state_->cancel.slot(), [state = state_](std::exception_ptr) {
        // Cancelled: nobody is interested any more.
      }));
}

StateWatch::~StateWatch() {
  state_->alarm = nullptr;
  if (!state_->done) state_->cancel.emit(asio::cancellation_type::terminal);
}

awaitable<void> StateWatch::Run(std::shared_ptr<State> state, std::shared_ptr<Instance> instance,
                                std::function<bool(const Instance&)> reached) {
  auto reached_or_gone = [reached = std::move(reached)](const Instance& it) {
    return it.forgotten() || reached(it);
  };
  (co_await instance->AwaitState(reached_or_gone, MonoTime::max())).IgnoreError();
  if (state->alarm == nullptr) co_return;
  state->done = true;
  if (state->then) state->then(*instance);
  state->alarm->Ring();
}

}  // namespace ctr
