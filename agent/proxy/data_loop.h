#pragma once

#include <functional>
#include <memory>
#include <thread>

#include "agent/proxy/loop_context.h"
#include "agent/proxy/session.h"

namespace ctr {

// One event loop on a thread of its own, and the connections that live on it. Owned by the Ingress.
class DataLoop {
 public:
  DataLoop(const RoutePublisher& routes, Waker& waker, Clock& clock, SessionLimits limits,
           size_t index, std::string access_log_path);
  // As Stop.
  ~DataLoop();
  DataLoop(const DataLoop&) = delete;

  // `begin` is called first, on the loop's thread.
  void Start(std::function<void()> begin);
  asio::any_io_executor executor() { return io_->get_executor(); }

  // Any thread, below. Takes over a connection.
  void Adopt(Accepted accepted);
  // From now on every answer closes its connection.
  void BeginDrain();
  // Ends the connections on which nothing was sent that is not answered.
  void CloseIdle();
  // Open ones, and those that are on their way here.
  size_t connections() const { return context_->connections.load(std::memory_order_acquire); }
  // Ends every connection and waits for the thread. The waker need not answer any more: if it was
  // asked and has not, the loop's memory stays, for its answer to go to.
  void Stop();

 private:
  void Turn();
  void AbortAll();

  std::unique_ptr<LoopContext> context_;
  std::unique_ptr<asio::io_context> io_;
  std::unique_ptr<asio::steady_timer> sweep_;
  std::thread thread_;
};

}  // namespace ctr
