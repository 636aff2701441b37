#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/error.h"
#include "agent/base/ip_range.h"
#include "agent/base/netns.h"

namespace ctr {

// An instance's way out: a pair of interfaces, one of them `eth0` in its network namespace, the
// other on the host, and nothing else on either's wire: no bridge, no ARP, no neighbour discovery.
// The host's end carries the container's ID as its alternative name. When the namespace goes, both
// go. All calls block, and need CAP_NET_ADMIN.
struct LinkSpec {
  std::string name;  // of the host's end
  std::string container_id;
  IpRange ipv4;                 // single addresses
  std::optional<IpRange> ipv6;  // none: IPv4 alone
  uint32_t mtu = 1500;
};

// Makes it, with addresses and routes on both sides. ALREADY_EXISTS if the name is in use,
// FAILED_PRECONDITION if the namespace has an `eth0`.
Status AddLink(const NetworkNamespace& netns, const LinkSpec& spec);

// OK if there is none.
Status RemoveLink(const std::string& container_id);

// A host's end.
struct FoundLink {
  std::string name;
  std::string container_id;  // "" before it has one
};
// Those whose names begin with `prefix`.
StatusOr<std::vector<FoundLink>> ListLinks(const std::string& prefix);
Status RemoveLinkByName(const std::string& name);

// One route of the host, in whichever table.
struct HostRoute {
  IpRange destination;
  uint32_t interface = 0;  // its index; 0: none
  uint32_t metric = 0;
  uint8_t protocol = 0;   // who made it
  bool is_claim = false;  // of an agent, see ClaimSubnet
};
StatusOr<std::vector<HostRoute>> ListRoutes();

// The index of the interface by which the host reaches an address of others; 0 if it does not.
StatusOr<uint32_t> InterfaceTo(const IpRange& address);

// Takes a network for an agent, which `owner` stands for: a route by which what belongs to no
// instance ends here, with `owner` as its metric. OK if it has it.
Status ClaimSubnet(const IpRange& subnet, uint32_t owner);
// OK if there is none, also where the kernel has no such family.
Status ReleaseSubnet(const IpRange& subnet, uint32_t owner);

// Who made our routes. (ip route shows it as a number.)
inline constexpr uint8_t kRouteProtocol = 119;

}  // namespace ctr
