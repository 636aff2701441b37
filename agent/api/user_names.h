#pragma once

#include <sys/types.h>

#include <map>
#include <string>

#include "agent/base/asio.h"

namespace ctr {

// Names of the host's users, looked up once each, on the work pool: the lookup may ask a server.
// Home: the control loop.
class UserNames {
 public:
  explicit UserNames(asio::any_io_executor work) : work_(std::move(work)) {}

  // "alice", or "uid 1000" if it has no name. Outlived by the object.
  awaitable<std::string> NameOf(uid_t uid);

 private:
  const asio::any_io_executor work_;
  std::map<uid_t, std::string> names_;
};

}  // namespace ctr
