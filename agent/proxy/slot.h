#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "agent/base/netns.h"
#include "agent/base/time.h"
#include "agent/model/class_config.h"
#include "agent/model/names.h"
#include "agent/proxy/slot_load.h"

namespace ctr {

// Where the current start of an instance is reached. Immutable; shared with the requests in it.
struct Endpoint {
  std::shared_ptr<const NetworkNamespace> netns;
  bool dial_loopback = false;  // 127.0.0.1 instead of NetworkNamespace::kInstanceAddress
  uint64_t generation = 0;     // upstream connections are pooled per generation
  std::shared_ptr<const ClassConfig> config =
      nullptr;  // that it was started with; null: the class's
};

// The shared point of one instance between control, which opens and closes it, and the data loops,
// which pass through it. One atomic gate: a closed bit and the in-flight count. No request is ever
// let into an instance that goes away.
class Slot {
 public:
  enum class Entry { kEntered, kClosed, kFull };

  explicit Slot(InstanceName name) : name_(std::move(name)) {}

  const InstanceName& name() const { return name_; }

  SlotLoad& load() { return load_; }
  const SlotLoad& load() const { return load_; }

  // Any thread. kEntered: the caller counts as in flight until it calls Leave. kFull:
  // max_concurrency is reached.
  Entry Enter() {
    uint64_t before = gate_.fetch_add(1, std::memory_order_acquire);
    if (before & kClosed) {
      gate_.fetch_sub(1, std::memory_order_release);
      return Entry::kClosed;
    }
    uint32_t limit = max_concurrency_.load(std::memory_order_relaxed);
    if (limit != 0 && before >= limit) {
      gate_.fetch_sub(1, std::memory_order_release);
      return Entry::kFull;
    }
    return Entry::kEntered;
  }

  // Any thread, once per kEntered. The end of a request is the activity that the idle timer counts
  // from.
  void Leave(MonoTime now) {
    Touch(now);
    served_.fetch_add(1, std::memory_order_relaxed);
    gate_.fetch_sub(1, std::memory_order_release);
    if (queued()) TellOfPlace();
  }

  // Any thread: requests to the class wait for a place in one of its instances. Who comes now is
  // behind them.
  bool queued() const { return queued_.load(std::memory_order_relaxed); }

  // Any thread: activity at `now`.
  void Touch(MonoTime now) { Advance(last_activity_, now); }

  // Any thread, of what has entered: it is a connection by now, of which nobody knows whether it
  // still serves for anything but by the bytes on it. Until EndTunnel, before Leave.
  void BeginTunnel() { tunnels_.fetch_add(1, std::memory_order_relaxed); }
  void EndTunnel() { tunnels_.fetch_sub(1, std::memory_order_release); }
  // Any thread: bytes on one of them.
  void TouchTunnel(MonoTime now) {
    Advance(last_tunnel_activity_, now);
    Touch(now);
  }

  MonoTime last_activity() const { return At(last_activity_); }
  MonoTime last_tunnel_activity() const { return At(last_tunnel_activity_); }
  uint64_t tunnels() const { return tunnels_.load(std::memory_order_acquire); }
  // Whether anything but tunnels is in flight.
  bool busy() const {
    const uint64_t in_flight_now = in_flight();
    return in_flight_now > tunnels();
  }
  // Requests that were let in and have ended, since the agent's start.
  uint64_t served() const { return served_.load(std::memory_order_relaxed); }
  // Includes requests that are just finding the gate closed.
  uint64_t in_flight() const { return gate_.load(std::memory_order_acquire) & ~kClosed; }
  bool closed() const { return gate_.load(std::memory_order_acquire) & kClosed; }

  // Null before the first start. Entered requests find the endpoint of the start that they were let
  // into.
  std::shared_ptr<const Endpoint> endpoint() const {
    return endpoint_.load(std::memory_order_acquire);
  }

  // Control only, below.
  void Open(std::shared_ptr<const Endpoint> endpoint) {
    endpoint_.store(std::move(endpoint), std::memory_order_release);
    gate_.fetch_and(~kClosed, std::memory_order_release);
  }
  // Of what had been let in before it was closed, as another agent says, or says so now.
  void EnterClosed() { gate_.fetch_add(1, std::memory_order_acquire); }
  // Opens it again for the start that it was closed in.
  void Reopen() { gate_.fetch_and(~kClosed, std::memory_order_release); }
  void Close() { gate_.fetch_or(kClosed, std::memory_order_acq_rel); }
  // Closes it only if nothing but tunnels is in flight; true if it is closed now.
  bool CloseIfIdle() {
    uint64_t idle = tunnels();
    return gate_.compare_exchange_strong(idle, idle | kClosed, std::memory_order_acq_rel) ||
           (idle & kClosed);
  }
  // Lets go of the last start's namespace, once it has ended. What is still in it keeps it, and by
  // this knows.
  void ForgetEndpoint() {
    if (closed()) endpoint_.store(nullptr, std::memory_order_release);
  }
  // While requests wait, who is told of each place that comes free, on whichever thread it does;
  // one that comes free in this very moment may be missed. Null: none waits.
  using OnPlace = std::function<void()>;
  void SetQueue(std::shared_ptr<const OnPlace> on_place) {
    const bool queued = on_place != nullptr;
    on_place_.store(std::move(on_place), std::memory_order_release);
    queued_.store(queued, std::memory_order_relaxed);
  }
  void set_max_concurrency(uint32_t limit) {
    max_concurrency_.store(limit, std::memory_order_relaxed);
  }
  uint32_t max_concurrency() const { return max_concurrency_.load(std::memory_order_relaxed); }

 private:
  static constexpr uint64_t kClosed = uint64_t{1} << 63;

  static MonoTime At(const std::atomic<int64_t>& ticks) {
    return MonoTime(MonoTime::duration(ticks.load(std::memory_order_relaxed)));
  }
  static void Advance(std::atomic<int64_t>& latest, MonoTime now) {
    const int64_t ticks = now.time_since_epoch().count();
    int64_t seen = latest.load(std::memory_order_relaxed);
    while (seen < ticks && !latest.compare_exchange_weak(seen, ticks, std::memory_order_relaxed)) {
    }
  }

  void TellOfPlace() {
    if (const std::shared_ptr<const OnPlace> on_place = on_place_.load(std::memory_order_acquire)) {
      (*on_place)();
    }
  }

  const InstanceName name_;
  std::atomic<uint64_t> gate_{kClosed};
  std::atomic<int64_t> last_activity_{0};
  std::atomic<int64_t> last_tunnel_activity_{0};
  std::atomic<uint64_t> tunnels_{0};
  std::atomic<uint64_t> served_{0};
  std::atomic<uint32_t> max_concurrency_{0};  // 0: no limit
  std::atomic<std::shared_ptr<const Endpoint>> endpoint_;
  std::atomic<bool> queued_{false};
  std::atomic<std::shared_ptr<const OnPlace>> on_place_;
  SlotLoad load_;
};

// One entered request; leaves the slot when it ends. Needs the clock to stamp the end.
class Passage {
 public:
  using NowFunction = MonoTime (*)();

  Passage() = default;
  Passage(std::shared_ptr<Slot> slot, std::shared_ptr<const Endpoint> endpoint, NowFunction now)
      : slot_(std::move(slot)), endpoint_(std::move(endpoint)), now_(now) {}
  Passage(Passage&& other) noexcept = default;
  Passage& operator=(Passage&& other) noexcept {
    if (this != &other) {
      Leave();
      slot_ = std::move(other.slot_);
      endpoint_ = std::move(other.endpoint_);
      now_ = other.now_;
    }
    return *this;
  }
  ~Passage() { Leave(); }

  const std::shared_ptr<Slot>& slot() const { return slot_; }
  const std::shared_ptr<const Endpoint>& endpoint() const { return endpoint_; }

  void Leave() {
    if (slot_) slot_->Leave(now_());
    slot_.reset();
  }

 private:
  std::shared_ptr<Slot> slot_;
  std::shared_ptr<const Endpoint> endpoint_;
  NowFunction now_ = nullptr;
};

}  // namespace ctr
