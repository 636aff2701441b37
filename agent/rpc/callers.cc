#include "agent/rpc/callers.h"

#include <string_view>

#include "absl/strings/numbers.h"

namespace ctr::rpc {

std::string Callers::Find(const std::string& peer) const {
  constexpr std::string_view kPrefix = "fd:";
  int fd = -1;
  if (!peer.starts_with(kPrefix) || !absl::SimpleAtoi(peer.substr(kPrefix.size()), &fd)) return "";
  auto found = callers_.find(fd);
  return found == callers_.end() ? "" : found->second;
}

}  // namespace ctr::rpc
