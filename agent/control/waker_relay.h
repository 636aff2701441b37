#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>

#include "agent/base/clock.h"
#include "agent/proxy/waker.h"

namespace ctr {

// The data loops' way to control, which may pass to another agent: asks the one here, holds what is
// asked while that one hands over, and then asks the other, also for what has not been answered by
// then. Owned by main; home: the control loop, but EnsureAwake and Refused are called on data
// loops. `here` outlives it.
class WakerRelay final : public Waker {
 public:
  // On control.
  using Ask = std::function<awaitable<StatusOr<Passage>>(
      InstanceName name, WakeOrigin origin, MonoTime deadline, std::string cause, size_t bytes)>;

  WakerRelay(asio::any_io_executor control, Clock& clock, Waker& here)
      : control_(std::move(control)), clock_(clock), here_(here) {}
  WakerRelay(const WakerRelay&) = delete;

  // Nothing is asked from now on.
  void Hold() { held_ = true; }
  // What was held is asked here.
  void Release();
  // What was held, what is not answered yet and all that comes is asked there.
  void PassOn(Ask there);

  awaitable<StatusOr<Passage>> EnsureAwake(InstanceName name, WakeOrigin origin, MonoTime deadline,
                                           std::string cause, size_t bytes) override;
  void Refused(Refusal refusal) override { here_.Refused(std::move(refusal)); }

 private:
  awaitable<StatusOr<Passage>> AskInTurn(InstanceName name, WakeOrigin origin, MonoTime deadline,
                                         std::string cause, size_t bytes);
  void RingAll();

  const asio::any_io_executor control_;
  Clock& clock_;
  Waker& here_;
  bool held_ = false;
  Ask there_;
  std::set<Alarm*> waiting_;
};

}  // namespace ctr
