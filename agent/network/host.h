// What the network takes from the machine that it runs on. All calls block for a moment at most.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "agent/base/error.h"
#include "agent/base/ip_range.h"
#include "agent/network/link.h"
#include "agent/network/resolv_conf.h"

namespace ctr {

// Every address of this host, loopback left out.
std::vector<IpRange> HostAddresses();

// Of the interface that the default route of either family leads out of; 1500 if there is none, or
// if it takes more.
uint32_t UplinkMtu(const std::vector<HostRoute>& routes);

// Whether the host has an IPv6 address by which it may reach others.
bool HasIpv6(const std::vector<IpRange>& addresses);

// Has the kernel pass packets on between interfaces, for both families as asked, and says what it
// changed, "" if nothing. With IPv6 that would end the host's own autoconfiguration: interfaces
// that have it are told to keep it (accept_ra = 2).
StatusOr<std::string> TurnOnForwarding(bool ipv6);

// What instances get: out of /etc/resolv.conf, or where that names systemd-resolved's stub alone,
// out of what that asks itself.
ResolvConf ResolvConfForInstances(const std::vector<IpRange>& host_addresses, bool has_ipv6);

// Counts what anybody changed in netfilter's tables. 0 if the kernel doesn't tell.
uint32_t NetfilterGeneration();

}  // namespace ctr
