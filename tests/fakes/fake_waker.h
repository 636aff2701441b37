#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "agent/base/work.h"
#include "agent/proxy/waker.h"

namespace ctr {

// Wakes instances by opening their slots, and writes down what it was asked. Any thread.
class FakeWaker final : public Waker {
 public:
  struct Call {
    InstanceName name;
    WakeOrigin origin;
  };

  // What `slot`'s next starts are reached at.
  void Add(std::shared_ptr<Slot> slot, std::shared_ptr<const Endpoint> endpoint) {
    std::lock_guard lock(mutex_);
    InstanceName name = slot->name();
    instances_[name] = {std::move(slot), std::move(endpoint)};
  }
  // The one that it picks where a class's policy does; of those that were added.
  void PickFor(const std::string& class_name, InstanceName picked) {
    std::lock_guard lock(mutex_);
    instances_[{class_name, ""}] = instances_.at(picked);
  }
  // Every call fails so, until it is OK.
  void FailWith(Status error) {
    std::lock_guard lock(mutex_);
    error_ = std::move(error);
  }
  // Calls wait, until Release.
  void Hold() {
    std::lock_guard lock(mutex_);
    held_ = true;
  }
  void Release() {
    std::lock_guard lock(mutex_);
    held_ = false;
  }
  // So do they, whoever cancels them.
  void HoldDeaf() {
    std::lock_guard lock(mutex_);
    held_ = deaf_ = true;
  }

  std::vector<Call> calls() const {
    std::lock_guard lock(mutex_);
    return calls_;
  }
  int starts() const {
    std::lock_guard lock(mutex_);
    return starts_;
  }
  // Calls that have not returned, and were not cancelled.
  int waiting() const {
    std::lock_guard lock(mutex_);
    return waiting_;
  }

  std::vector<Refusal> refusals() const {
    std::lock_guard lock(mutex_);
    return refusals_;
  }
  void Refused(Refusal refusal) override {
    std::lock_guard lock(mutex_);
    refusals_.push_back(std::move(refusal));
  }

  awaitable<StatusOr<Passage>> EnsureAwake(InstanceName name, WakeOrigin origin, MonoTime deadline,
                                           std::string, size_t) override {
    Enter({name, origin});
    const auto left = absl::MakeCleanup([this] { Leave(); });
    if (deaf()) co_await AllowCancellation(false);
    asio::steady_timer timer(co_await asio::this_coro::executor);
    while (held() && std::chrono::steady_clock::now() < deadline) {
      timer.expires_after(std::chrono::milliseconds(1));
      co_await timer.async_wait(use_awaitable);
    }
    co_return Finish(std::move(name));
  }

 private:
  struct Instance {
    std::shared_ptr<Slot> slot;
    std::shared_ptr<const Endpoint> endpoint;
  };

  static MonoTime Now() { return std::chrono::steady_clock::now(); }

  bool held() const {
    std::lock_guard lock(mutex_);
    return held_;
  }
  bool deaf() const {
    std::lock_guard lock(mutex_);
    return deaf_;
  }
  void Enter(Call call) {
    std::lock_guard lock(mutex_);
    calls_.push_back(std::move(call));
    ++waiting_;
  }
  void Leave() {
    std::lock_guard lock(mutex_);
    --waiting_;
  }
  StatusOr<Passage> Finish(InstanceName name) {
    std::lock_guard lock(mutex_);
    if (!error_.ok()) return error_;
    if (held_) {
      return Error(absl::StatusCode::kDeadlineExceeded, code::kStartTimeout, "not healthy in time");
    }
    auto found = instances_.find(name);
    if (found == instances_.end()) {
      return Error(absl::StatusCode::kNotFound, code::kUnknownInstance, "no such instance");
    }
    Instance& instance = found->second;
    if (instance.slot->closed()) {
      ++starts_;
      instance.slot->Open(instance.endpoint);
    }
    if (instance.slot->Enter() != Slot::Entry::kEntered) {
      return Error(absl::StatusCode::kUnavailable, code::kOverloaded, "full");
    }
    return Passage(instance.slot, instance.slot->endpoint(), &Now);
  }

  mutable std::mutex mutex_;
  std::map<InstanceName, Instance> instances_;
  std::vector<Call> calls_;
  std::vector<Refusal> refusals_;
  Status error_;
  bool held_ = false;
  bool deaf_ = false;
  int starts_ = 0;
  int waiting_ = 0;
};

}  // namespace ctr
