#pragma once

#include <memory>
#include <thread>

#include "agent/proxy/loop_context.h"
#include "agent/proxy/session.h"

namespace ctr {

// One event loop on a thread of its own, and the connections that live on it. Owned by the Ingress.
class DataLoop {
 public:
  DataLoop(const RoutePublisher& routes, Waker& waker, Clock& clock, SessionLimits limits);
  // As Stop.
  ~DataLoop();
  DataLoop(const DataLoop&) = delete;

  void Start();
  asio::any_io_executor executor() { return io_->get_executor(); }

  // Any thread, below. Takes over a connection.
  void Adopt(Accepted accepted);
  // Lets requests in flight finish, and nothing begin.
  void BeginDrain();
  // Connections that are open, and calls of the waker that have not returned.
  size_t busy() const { return context_->busy.load(std::memory_order_acquire); }
  // Ends every connection and waits for the thread. A call of the waker that does not come back
  // within seconds would find no loop to come back to: then the loop's memory stays.
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
