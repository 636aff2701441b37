#include "agent/proxy/connection_limits.h"

#include <algorithm>

namespace ctr {

std::optional<std::string_view> ConnectionLimits::Take(const std::string& client, bool loopback,
                                                       size_t open, ClientShare& share) {
  if (limits_.total != 0 && open >= limits_.total) return "max_connections";
  if (limits_.per_client == 0 || (loopback && !limits_.loopback_too)) return std::nullopt;
  ClientShare& known = clients_[client];
  if (!known) known = std::make_shared<const char>();
  // Ours is one of them. It may shrink meanwhile, on other threads, and then is let in next time.
  if (static_cast<size_t>(known.use_count()) > limits_.per_client) {
    return "max_connections_per_client";
  }
  share = known;
  if (clients_.size() >= sweep_at_) {
    absl::erase_if(clients_, [](const auto& entry) { return entry.second.use_count() == 1; });
    sweep_at_ = std::max<size_t>(64, 2 * clients_.size());
  }
  return std::nullopt;
}

}  // namespace ctr
