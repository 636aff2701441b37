#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/container/flat_hash_map.h"

namespace ctr {

// Counts as one connection of its client while it lives. Any thread.
using ClientShare = std::shared_ptr<const char>;

// How many connections there may be, in all and of one client. Home: the loop that accepts.
class ConnectionLimits {
 public:
  struct Limits {
    size_t total = 0;       // 0: any number
    size_t per_client = 0;  // likewise
    // Without it, clients on this host may have any number: they are proxies, and tests.
    bool loopback_too = false;
  };
  explicit ConnectionLimits(Limits limits) : limits_(limits) {}

  // Of a new connection, where there are `open` others: takes its share, or says what is in the
  // way.
  std::optional<std::string_view> Take(const std::string& client, bool loopback, size_t open,
                                       ClientShare& share);

 private:
  const Limits limits_;
  absl::flat_hash_map<std::string, ClientShare> clients_;
  size_t sweep_at_ = 64;  // so many clients
};

}  // namespace ctr
