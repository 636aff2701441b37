#include "agent/proxy/ingress.h"

#include <algorithm>
#include <thread>

namespace ctr {
namespace {

constexpr Duration kDrainPoll = std::chrono::milliseconds(10);

size_t LoopCount(int configured) {
  if (configured > 0) return static_cast<size_t>(configured);
  return std::clamp<size_t>(std::thread::hardware_concurrency(), 1, 8);
}

}  // namespace

Ingress::Ingress(IngressConfig config, const RoutePublisher& routes, Waker& waker, Clock& clock)
    : config_(std::move(config)), routes_(routes), waker_(waker), clock_(clock) {}

Ingress::~Ingress() { Stop(); }

Status Ingress::Open() {
  for (const std::string& address : config_.http) {
    CTR_ASSIGN_OR_RETURN(std::shared_ptr<Listener> listener,
                         Listener::Open(address, config_.trust_ctr_headers));
    listeners_.push_back(std::move(listener));
  }
  CTR_ASSIGN_OR_RETURN(steering_, Steering::Create(config_.ranges, config_.steering));
  return absl::OkStatus();
}

void Ingress::Start() {
  for (size_t i = 0; i < LoopCount(config_.data_loops); ++i) {
    loops_.push_back(std::make_unique<DataLoop>(routes_, waker_, clock_, config_.limits));
    loops_.back()->Start();
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
    loops_[next_loop_++ % loops_.size()]->Adopt(std::move(accepted));
  };
  asio::co_spawn(loops_.front()->executor(), AcceptOn(std::move(listener), std::move(sink)),
                 asio::detached);
}

void Ingress::CloseListeners() {
  for (const std::shared_ptr<Listener>& listener : listeners_) listener->Close();
  if (steering_) steering_->Close();
}

size_t Ingress::connections() const {
  size_t connections = 0;
  for (const std::unique_ptr<DataLoop>& loop : loops_) connections += loop->connections();
  return connections;
}

awaitable<void> Ingress::Drain(Duration limit) {
  CloseListeners();
  for (const std::unique_ptr<DataLoop>& loop : loops_) loop->BeginDrain();
  const MonoTime end = clock_.Now() + limit;
  while (connections() > 0 && clock_.Now() < end) {
    co_await clock_.SleepUntil(std::min(end, clock_.Now() + kDrainPoll));
  }
}

void Ingress::Stop() {
  CloseListeners();
  // In order: the first hands connections to the others.
  for (const std::unique_ptr<DataLoop>& loop : loops_) loop->Stop();
  loops_.clear();
}

}  // namespace ctr
