// What the network takes from the machine that it runs on. All calls block for a moment at most.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/error.h"
#include "agent/base/ip_range.h"
#include "agent/network/resolv_conf.h"

namespace ctr {

// The host's own place in its network. It may change at any time: DHCP, a VPN, another uplink.
struct HostNetwork {
  std::vector<IpRange> addresses;  // in order; 127.0.0.0/8, ::1 and link-local ones are left out
  bool has_ipv6 = false;           // an address, and a way to others
  uint32_t mtu = 1500;             // of the way to others, but no more than Ethernet's

  bool operator==(const HostNetwork&) const = default;
};
StatusOr<HostNetwork> LookAtHost();

// A setting of the kernel that has to be another.
struct KernelSetting {
  std::string path;  // below /proc/sys
  std::string had;
  std::string wanted;
};
inline constexpr char kIpv4Forward[] = "/proc/sys/net/ipv4/ip_forward";
inline constexpr char kIpv6Forward[] = "/proc/sys/net/ipv6/conf/all/forwarding";

// What to change before the kernel passes packets on between interfaces, for both families as
// asked. With IPv6 that would end the host's own autoconfiguration: interfaces that have it are to
// keep it (accept_ra = 2).
StatusOr<std::vector<KernelSetting>> ForwardingChanges(bool ipv6);
Status ChangeSetting(const KernelSetting& setting);
// Gives it back what it had, unless somebody has changed it since.
Status RestoreSetting(const KernelSetting& setting);

// A line for each, "PATH HAD WANTED", and back.
std::string FormatSettings(const std::vector<KernelSetting>& settings);
std::vector<KernelSetting> ParseSettings(std::string_view text);

// What instances get: out of /etc/resolv.conf, or where that names systemd-resolved's stub alone,
// out of what that asks itself.
ResolvConf ResolvConfForInstances(const HostNetwork& host);

// Counts what anybody changed in netfilter's tables. 0 if the kernel doesn't tell.
uint32_t NetfilterGeneration();

// Whether netfilter has a table `inet NAME`; nothing if the kernel doesn't tell. Needs no nft.
std::optional<bool> HasTable(const std::string& name);

}  // namespace ctr
