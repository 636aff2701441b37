#pragma once

#include <map>
#include <string>

#include "agent/base/asio.h"

namespace ctr::rpc {

// Who is at the other end of the connections that a server was given by descriptor: the peer of
// their calls is "fd:23". One for each io_context, whose executor the handlers run on; used there.
class Callers final : public asio::execution_context::service {
 public:
  using key_type = Callers;
  inline static asio::execution_context::id id;

  explicit Callers(asio::execution_context& context) : service(context) {}
  static Callers& Of(const asio::any_io_executor& executor) {
    return asio::use_service<Callers>(asio::query(executor, asio::execution::context));
  }

  // From now on calls on the connection of `fd` come from `caller`. What stands there of an earlier
  // connection with this number is forgotten.
  void Set(int fd, std::string caller) { callers_[fd] = std::move(caller); }
  // "" for the peer of another kind of connection.
  std::string Find(const std::string& peer) const;

 private:
  void shutdown() override {}

  std::map<int, std::string> callers_;
};

}  // namespace ctr::rpc
