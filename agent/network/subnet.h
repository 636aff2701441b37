#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/error.h"
#include "agent/base/ip_range.h"

namespace ctr {

// Where the instances of an agent have their addresses towards the outside. Nobody but this host
// sees them: what leaves it has the host's own.
struct Subnets {
  IpRange ipv4;
  IpRange ipv6;  // a /64 of fd00::/8

  bool operator==(const Subnets&) const = default;
};

// One line for DATA/network, and back. INVALID_ARGUMENT if the text is none.
std::string FormatSubnets(const Subnets& subnets);
StatusOr<Subnets> ParseSubnets(std::string_view line);

// The nth network that an agent tries, of 10.192.0.0/16 to 10.239.0.0/16: apart from what Docker,
// Podman and Kubernetes take by default. Each agent begins elsewhere, so that several of a machine
// seldom meet. None once all were tried.
std::optional<IpRange> CandidateSubnet(std::string_view agent_id, int n);

// What may stand in the way of a network for instances.
struct Obstacles {
  std::vector<IpRange> claimed;  // by other agents
  std::vector<IpRange> used;     // destinations of routes, nameservers, what instances may reach
};

// What keeps an agent from taking `subnet`: a claim that overlaps it, or something in use that is
// the same or a part of it. What goes far beyond it (a VPN's 0.0.0.0/1, a 10.0.0.0/8) does not:
// longer prefixes win.
std::optional<IpRange> ObstacleTo(const IpRange& subnet, const Obstacles& obstacles);

// The first candidate that can be taken, and its number. Those within nothing that is in use are
// tried before the others, so that numbers go to twice the candidates'; `first`: from which on.
struct ChosenSubnet {
  IpRange ipv4;
  int number = 0;
};
std::optional<ChosenSubnet> ChooseSubnet(std::string_view agent_id, int first,
                                         const Obstacles& obstacles);

// What stands for an agent where only a number fits. Not 0.
uint32_t NumberOf(std::string_view agent_id);

// A unique local network (RFC 4193) whose 40 bits of global ID come of the agent ID.
IpRange UniqueLocalSubnet(std::string_view agent_id);

}  // namespace ctr
