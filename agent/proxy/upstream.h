#pragma once

#include <netinet/in.h>

#include <memory>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "agent/base/clock.h"
#include "agent/base/error.h"
#include "agent/proxy/slot.h"
#include "agent/proxy/stream.h"

namespace ctr {

// One connection to one port of one start of an instance.
struct UpstreamConnection {
  UpstreamConnection(Poller& poller, UniqueFd fd, PolledSocket::First first,
                     std::shared_ptr<const Endpoint> endpoint, uint16_t port)
      : stream(poller, std::move(fd), first), endpoint(std::move(endpoint)), port(port) {}

  Stream stream;
  const std::shared_ptr<const Endpoint> endpoint;
  const uint16_t port;
  MonoTime idle_since;
};
using UpstreamPtr = std::shared_ptr<UpstreamConnection>;

// A non-blocking socket in the instance's network namespace, that comes from the agent's address,
// and where it connects to.
StatusOr<UniqueFd> OpenUpstreamSocket(const Endpoint& endpoint, uint16_t port);
sockaddr_in UpstreamAddress(const Endpoint& endpoint, uint16_t port);

// Connects from inside the instance's network namespace. UNAVAILABLE with upstream_error if it is
// refused, or not there by `limit`.
awaitable<StatusOr<UpstreamPtr>> Dial(Poller& poller, std::shared_ptr<const Endpoint> endpoint,
                                      uint16_t port, Duration limit);

// The idle keep-alive connections of one data loop, by start and port. Home: that loop.
class UpstreamPool {
 public:
  static constexpr size_t kMaxIdlePerPort = 256;
  static constexpr size_t kMaxIdle = 2048;
  // Below the 5 s after which common servers (node, Apache) close an idle connection.
  static constexpr Duration kMaxIdleTime = std::chrono::seconds(4);

  // A connection that is still open; null if there is none. For a request that can't be sent again
  // it was idle for a second at most, and the kernel was asked.
  UpstreamPtr Take(const std::shared_ptr<const Endpoint>& endpoint, uint16_t port, MonoTime now,
                   bool can_send_again);
  // Keeps it for the next request to the same start. `slot` is the instance's.
  void Put(const std::shared_ptr<Slot>& slot, UpstreamPtr connection, MonoTime now);

  // Closes what was idle too long, and all of an instance that is closed or has started anew: a
  // program that ends waits for its connections.
  void Sweep(MonoTime now);
  void Clear();
  size_t size() const { return size_; }

 private:
  struct Idle {
    std::shared_ptr<Slot> slot;
    std::shared_ptr<const Endpoint> endpoint;  // keeps the key's address from being used again
    std::vector<UpstreamPtr> connections;      // the longest idle first
  };
  using Key = std::pair<const Endpoint*, uint16_t>;

  absl::flat_hash_map<Key, Idle> idle_;
  size_t size_ = 0;
};

}  // namespace ctr
