#pragma once

#include <sys/types.h>

#include <map>
#include <memory>
#include <optional>
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
  struct User {
    explicit User(const asio::any_io_executor& executor)
        : known(executor, asio::steady_timer::time_point::max()) {}

    std::optional<std::string> name;
    asio::steady_timer known;  // cancelled once it is
  };

  const asio::any_io_executor work_;
  std::map<uid_t, std::shared_ptr<User>> users_;
};

}  // namespace ctr
