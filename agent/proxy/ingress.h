#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "agent/proxy/data_loop.h"
#include "agent/proxy/steering.h"

namespace ctr {

struct IngressConfig {
  std::vector<std::string> http = {"127.0.0.1:8080"};  // where names and Ctr-* fields choose
  bool trust_ctr_headers = false;                      // also on addresses beyond loopback
  std::vector<Ipv4Range> ranges = {};                  // of instances' and classes' addresses
  SteeringMode steering = SteeringMode::kAuto;
  int data_loops = 0;  // 0: one a core, 8 at most
  SessionLimits limits = {};
  ConnectionLimits::Limits connections = {};
  std::string access_log = {};              // a file; "": none
  std::function<void()> begin_thread = {};  // the first thing on each loop's thread
};

// What a drain does with connections on which nothing happens: ends them soon, or keeps them for
// as long as it may, in case that something will.
enum class IdleConnections { kEnd, kKeep };

// The way in for all traffic: listeners, data loops and the connections on them. Open, then Start,
// then maybe Drain, then Stop. Home: the control loop, but for the loops' own threads. What it
// refers to outlives it.
class Ingress {
 public:
  // Listeners of an earlier process are taken from `store`, and kept there.
  Ingress(IngressConfig config, const RoutePublisher& routes, Waker& waker, Clock& clock,
          FdStore& store);
  // As Stop.
  ~Ingress();

  // Takes the addresses and sets up steering, and serves nobody yet: who connects waits. IN_USE if
  // another server or agent has one of them.
  Status Open();
  // The threads start and connections are served.
  void Start();

  // After Open.
  Steering& steering() { return *steering_; }
  // Those that config.http became: "127.0.0.1:8080", with the port where 0 was asked for.
  std::vector<std::string> http_addresses() const;

  // Open ones, and those just accepted.
  size_t connections() const;

  // Takes no more connections: they wait for Resume, or for who has the listeners, too. Returns
  // when those that were being accepted are served.
  awaitable<void> Pause();
  // Goes on after a Pause, whatever was done to the listeners and to steering meanwhile.
  void Resume();
  // Takes no more connections: they wait for the next process if the store keeps the listeners, and
  // are refused else. Every client gets the answer to what it has sent, with `Connection: close`.
  // Returns when no connection is left, or after `limit`. What is held for a wake counts as in
  // flight.
  awaitable<void> Drain(Duration limit, IdleConnections idle);
  // Ends whatever is left, and the threads; within seconds. Blocks.
  void Stop();

 private:
  void Accept(std::shared_ptr<Listener> listener);
  StatusOr<std::shared_ptr<Listener>> OpenHttp(const std::string& address, const std::string& name);
  void CloseListeners();
  std::vector<std::shared_ptr<Listener>> Listeners() const;
  void StopAccepting(std::vector<std::shared_ptr<Listener>> listeners);
  void StopAccepting();

  const IngressConfig config_;
  const RoutePublisher& routes_;
  Waker& waker_;
  Clock& clock_;
  FdStore& store_;

  std::vector<std::shared_ptr<Listener>> listeners_;
  std::unique_ptr<Steering> steering_;
  std::vector<std::unique_ptr<DataLoop>> loops_;
  size_t next_loop_ = 0;              // used by the first loop
  ConnectionLimits limits_;           // likewise
  std::atomic<size_t> accepting_{0};  // listeners
};

}  // namespace ctr
