#include "agent/network/host.h"

#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "agent/base/fd.h"
#include "agent/base/netlink.h"
#include "agent/base/read_file.h"

namespace ctr {
namespace {

namespace fs = std::filesystem;

constexpr uint32_t kEthernetMtu = 1500;
constexpr uint32_t kLeastMtu = 1280;  // IPv6's
constexpr char kIpv4Forward[] = "/proc/sys/net/ipv4/ip_forward";
constexpr char kIpv6Conf[] = "/proc/sys/net/ipv6/conf";
constexpr char kResolvConf[] = "/etc/resolv.conf";
constexpr char kResolvedConf[] = "/run/systemd/resolve/resolv.conf";

std::string ReadSetting(const fs::path& path) {
  return std::string(absl::StripAsciiWhitespace(ReadFileText(path)));
}

Status WriteSetting(const fs::path& path, std::string_view value) {
  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd.valid() || ::write(fd.get(), value.data(), value.size()) < 0) {
    return ErrnoError(errno, absl::StrCat("cannot write ", path.string()));
  }
  return absl::OkStatus();
}

std::optional<IpRange> AddressOf(const sockaddr* address) {
  if (address == nullptr) return std::nullopt;
  if (address->sa_family == AF_INET) {
    const auto* in = reinterpret_cast<const sockaddr_in*>(address);
    return IpRangeOf({reinterpret_cast<const char*>(&in->sin_addr), 4}, 32);
  }
  if (address->sa_family == AF_INET6) {
    const auto* in = reinterpret_cast<const sockaddr_in6*>(address);
    return IpRangeOf({reinterpret_cast<const char*>(&in->sin6_addr), 16}, 128);
  }
  return std::nullopt;
}

// 0 if there is no such interface. (/sys shows another namespace's, where it was mounted in one.)
uint32_t MtuOf(uint32_t index) {
  const UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request = {};
  if (!fd.valid() || ::if_indextoname(index, request.ifr_name) == nullptr ||
      ::ioctl(fd.get(), SIOCGIFMTU, &request) != 0) {
    return 0;
  }
  return static_cast<uint32_t>(request.ifr_mtu);
}

bool IsLinkLocal(const IpRange& address) {
  return !address.is_ipv4() && address.address[0] == 0xfe && (address.address[1] & 0xc0) == 0x80;
}

// Interfaces that configure themselves by router advertisements would no longer do so.
Status KeepAutoconfiguration(std::vector<std::string>& changes) {
  std::error_code error;
  for (fs::directory_iterator it(kIpv6Conf, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename();
    if (name == "all" || name == "default" || name == "lo") continue;
    if (ReadSetting(it->path() / "accept_ra") != "1") continue;
    CTR_RETURN_IF_ERROR(WriteSetting(it->path() / "accept_ra", "2"));
    changes.push_back(absl::StrCat("net.ipv6.conf.", name, ".accept_ra = 2"));
  }
  return absl::OkStatus();
}

}  // namespace

std::vector<IpRange> HostAddresses() {
  std::vector<IpRange> addresses;
  ifaddrs* all = nullptr;
  if (::getifaddrs(&all) != 0) return addresses;
  for (const ifaddrs* it = all; it != nullptr; it = it->ifa_next) {
    if ((it->ifa_flags & IFF_LOOPBACK) != 0) continue;
    if (std::optional<IpRange> address = AddressOf(it->ifa_addr)) addresses.push_back(*address);
  }
  ::freeifaddrs(all);
  return addresses;
}

uint32_t UplinkMtu(const std::vector<HostRoute>& routes) {
  uint32_t least = kEthernetMtu;
  for (const HostRoute& route : routes) {
    if (route.destination.prefix != 0 || route.interface == 0) continue;
    const uint32_t mtu = MtuOf(route.interface);
    if (mtu >= kLeastMtu) least = std::min(least, mtu);
  }
  return least;
}

bool HasIpv6(const std::vector<IpRange>& addresses) {
  return std::any_of(addresses.begin(), addresses.end(), [](const IpRange& address) {
    return !address.is_ipv4() && !IsLinkLocal(address);
  });
}

StatusOr<std::string> TurnOnForwarding(bool ipv6) {
  std::vector<std::string> changes;
  if (ReadSetting(kIpv4Forward) != "1") {
    CTR_RETURN_IF_ERROR(WriteSetting(kIpv4Forward, "1"));
    changes.emplace_back("net.ipv4.ip_forward = 1");
  }
  const fs::path all = fs::path(kIpv6Conf) / "all" / "forwarding";
  if (ipv6 && ReadSetting(all) != "1") {
    CTR_RETURN_IF_ERROR(KeepAutoconfiguration(changes));
    CTR_RETURN_IF_ERROR(WriteSetting(all, "1"));
    changes.emplace_back("net.ipv6.conf.all.forwarding = 1");
  }
  return absl::StrJoin(changes, ", ");
}

ResolvConf ResolvConfForInstances(const std::vector<IpRange>& host_addresses, bool has_ipv6) {
  ResolvConf conf = ParseResolvConf(ReadFileText(kResolvConf));
  const auto is_stub = [](const IpRange& address) {
    return address.is_ipv4() && address.address[0] == 127;
  };
  if (std::all_of(conf.nameservers.begin(), conf.nameservers.end(), is_stub)) {
    const ResolvConf asked = ParseResolvConf(ReadFileText(kResolvedConf));
    if (!asked.nameservers.empty()) conf = asked;
  }
  const auto is_own = [&](const IpRange& address) {
    return std::find(host_addresses.begin(), host_addresses.end(), address) != host_addresses.end();
  };
  return ForInstances(std::move(conf), is_own, has_ipv6);
}

uint32_t NetfilterGeneration() {
  StatusOr<NetlinkSocket> socket = NetlinkSocket::Open(NETLINK_NETFILTER);
  if (!socket.ok()) return 0;
  const nfgenmsg message{.nfgen_family = AF_UNSPEC, .version = NFNETLINK_V0, .res_id = 0};
  uint32_t generation = 0;
  socket
      ->Ask(NetlinkRequest(NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETGEN, 0, message), "netfilter",
            [&](uint16_t, std::string_view answer) {
              if (answer.size() < sizeof message) return;
              answer.remove_prefix(sizeof message);
              generation = ntohl(NetlinkAttributes(answer).Number(NFTA_GEN_ID));
            })
      .IgnoreError();
  return generation;
}

}  // namespace ctr
