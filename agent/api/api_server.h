#pragma once

#include <memory>
#include <string>

#include "agent/base/error.h"
#include "agent/base/time.h"

namespace grpc {
class Server;
class Service;
}  // namespace grpc

namespace ctr {

// Serves `service` on a Unix socket of mode 0660 root:ctr: who may open it may do everything. Used
// on control.
class ApiServer {
 public:
  // Replaces a socket that a dead agent left. The group is root's own if the host has no group
  // `ctr`.
  static StatusOr<std::unique_ptr<ApiServer>> Listen(const std::string& socket_path,
                                                     grpc::Service& service);
  ~ApiServer();

  // Cancels the calls that are still open after `patience`, and returns when their handlers have
  // ended. Blocks: from a thread other than control, which runs the handlers.
  void Shutdown(Duration patience);

 private:
  explicit ApiServer(std::unique_ptr<grpc::Server> server);

  std::unique_ptr<grpc::Server> server_;
};

}  // namespace ctr
