#pragma once

#include <memory>
#include <string>

#include "agent/base/asio.h"
#include "agent/base/error.h"
#include "agent/base/fd.h"
#include "agent/base/fd_store.h"
#include "agent/base/time.h"

namespace grpc {
class Server;
class Service;
}  // namespace grpc

namespace ctr {

class UserNames;

// Serves `service` on a Unix socket of mode 0660 root:ctr: who may open it may do everything. It
// accepts itself, and so knows who calls: rpc::CallContext::caller. Home: the control loop.
class ApiServer {
 public:
  // Goes on with the listener that `store` has of an earlier process; else replaces the socket that
  // a dead agent left, and keeps it there. The group is root's own if the host has no group `ctr`.
  // Calls run on `control`; names of users are looked up on `work`.
  static StatusOr<std::unique_ptr<ApiServer>> Listen(const std::string& socket_path,
                                                     grpc::Service& service, FdStore& store,
                                                     asio::any_io_executor control,
                                                     asio::any_io_executor work);
  ~ApiServer();

  // Takes no more connections: they wait for the next process, if the store keeps the listener.
  void StopAccepting();
  // Takes them again.
  void ResumeAccepting();
  // Cancels the calls that are still open after `patience`, and returns when their handlers have
  // ended. Blocks: from a thread other than control, which runs the handlers.
  void Shutdown(Duration patience);

 private:
  struct State;

  static void BeginAccepting(const std::shared_ptr<State>& state);
  explicit ApiServer(std::shared_ptr<State> state);
  static awaitable<void> Accept(std::shared_ptr<State> state);
  static awaitable<void> Admit(std::shared_ptr<State> state, UniqueFd connection);

  const std::shared_ptr<State> state_;
};

}  // namespace ctr
