#include "agent/proxy/ingress.h"

#include <algorithm>
#include <thread>

#include "absl/strings/str_cat.h"
#include "spdlog/spdlog.h"

namespace ctr {
namespace {

constexpr Duration kDrainPoll = std::chrono::milliseconds(10);
// A client may be sending its next request while its idle connection is being closed.
constexpr Duration kIdleGrace = std::chrono::seconds(1);

size_t LoopCount(int configured) {
  if (configured > 0) return static_cast<size_t>(configured);
  return std::clamp<size_t>(std::thread::hardware_concurrency(), 1, 8);
}

}  // namespace

Ingress::Ingress(IngressConfig config, const RoutePublisher& routes, Waker& waker, Clock& clock,
                 FdStore& store)
    : config_(std::move(config)),
      routes_(routes),
      waker_(waker),
      clock_(clock),
      store_(store),
      limits_(config_.connections) {}

Ingress::~Ingress() { Stop(); }

Status Ingress::Open() {
  for (const std::string& address : config_.http) {
    CTR_ASSIGN_OR_RETURN(std::shared_ptr<Listener> listener,
                         OpenHttp(address, absl::StrCat("http-", listeners_.size())));
    listeners_.push_back(std::move(listener));
  }
  CTR_ASSIGN_OR_RETURN(steering_, Steering::Create(config_.ranges, config_.steering, store_));
  return absl::OkStatus();
}

StatusOr<std::shared_ptr<Listener>> Ingress::OpenHttp(const std::string& address,
                                                      const std::string& name) {
  if (UniqueFd kept = store_.Take(name); kept.valid()) {
    auto resumed = Listener::Resume(std::move(kept), address, config_.trust_ctr_headers);
    if (resumed.ok()) return resumed;
    spdlog::warn("\"{}\" was kept, but {}", name, std::string(resumed.status().message()));
    store_.Remove(name);
  }
  auto listener = Listener::Open(address, config_.trust_ctr_headers);
  if (listener.ok()) store_.Keep(name, (*listener)->fd());
  return listener;
}

void Ingress::Start() {
  for (size_t i = 0; i < LoopCount(config_.data_loops); ++i) {
    loops_.push_back(
        std::make_unique<DataLoop>(routes_, waker_, clock_, config_.limits, i, config_.access_log));
    loops_.back()->Start(config_.begin_thread);
  }
  for (const std::shared_ptr<Listener>& listener : listeners_) Accept(listener);
  steering_->Serve([this](std::shared_ptr<Listener> listener) { Accept(std::move(listener)); });
}

std::vector<std::string> Ingress::http_addresses() const {
  std::vector<std::string> addresses;
  for (const std::shared_ptr<Listener>& listener : listeners_) {
    addresses.push_back(listener->address());
  }
  return addresses;
}

// The first loop accepts for all, each loop gets its turn: with a listener a loop, the kernel's
// hash would give some of them most of the connections.
void Ingress::Accept(std::shared_ptr<Listener> listener) {
  auto sink = [this](Accepted accepted) {
    auto refused = limits_.Take(accepted.peer, accepted.loopback, connections(), accepted.share);
    if (!refused) loops_[next_loop_++ % loops_.size()]->Adopt(std::move(accepted));
    return refused;
  };
  accepting_.fetch_add(1);
  const asio::any_io_executor executor = loops_.front()->executor();
  asio::post(executor, [this, executor, listener, sink = std::move(sink)] {
    asio::co_spawn(
        executor, AcceptOn(listener, sink),
        asio::bind_cancellation_slot(listener->stop_slot(), [this, listener](std::exception_ptr) {
          accepting_.fetch_sub(1);
        }));
  });
}

void Ingress::CloseListeners() {
  if (steering_) steering_->Close();
  if (store_.available()) return;
  for (const std::shared_ptr<Listener>& listener : listeners_) listener->Close();
}

std::vector<std::shared_ptr<Listener>> Ingress::Listeners() const {
  std::vector<std::shared_ptr<Listener>> listeners = steering_->listeners();
  listeners.insert(listeners.end(), listeners_.begin(), listeners_.end());
  return listeners;
}

void Ingress::StopAccepting(std::vector<std::shared_ptr<Listener>> listeners) {
  asio::post(loops_.front()->executor(), [listeners = std::move(listeners)] {
    for (const std::shared_ptr<Listener>& listener : listeners) listener->StopAccepting();
  });
}

void Ingress::StopAccepting() {
  CloseListeners();
  if (!loops_.empty()) StopAccepting(Listeners());
}

awaitable<void> Ingress::Pause() {
  StopAccepting(Listeners());
  while (accepting_ > 0) co_await clock_.SleepUntil(clock_.Now() + kDrainPoll);
}

void Ingress::Resume() {
  steering_->TakeBack();
  for (const std::shared_ptr<Listener>& listener : Listeners()) Accept(listener);
}

size_t Ingress::connections() const {
  size_t connections = 0;
  for (const std::unique_ptr<DataLoop>& loop : loops_) connections += loop->connections();
  return connections;
}

awaitable<void> Ingress::Drain(Duration limit, IdleConnections idle) {
  StopAccepting();
  const MonoTime begin = clock_.Now();
  const MonoTime end = begin + limit;
  // Even those that are kept are ended in order, not by the end of the process.
  const MonoTime idle_end = idle == IdleConnections::kEnd ? begin + kIdleGrace : end - kIdleGrace;
  auto pause = [this, end] { return clock_.SleepUntil(std::min(end, clock_.Now() + kDrainPoll)); };
  // Connections that are just being accepted are served, too.
  while (accepting_ > 0 && clock_.Now() < end) co_await pause();
  for (const std::unique_ptr<DataLoop>& loop : loops_) loop->BeginDrain();
  while (connections() > 0 && clock_.Now() < end) {
    co_await pause();
    if (clock_.Now() < idle_end) continue;
    for (const std::unique_ptr<DataLoop>& loop : loops_) loop->CloseIdle();
  }
}

void Ingress::Stop() {
  StopAccepting();
  // In order: the first hands connections to the others.
  for (const std::unique_ptr<DataLoop>& loop : loops_) loop->Stop();
  loops_.clear();
}

}  // namespace ctr
