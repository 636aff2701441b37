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
#include <array>
#include <cerrno>
#include <filesystem>
#include <optional>
#include <tuple>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "agent/base/descriptors.h"
#include "agent/base/fd.h"
#include "agent/base/netlink.h"
#include "agent/base/read_file.h"
#include "agent/network/link.h"

namespace ctr {
namespace {

namespace fs = std::filesystem;

constexpr uint32_t kLeastMtu = 1280;  // IPv6's
constexpr uint8_t kInetFamily =
    1;  // NFPROTO_INET of linux/netfilter.h, which netinet/in.h excludes
constexpr char kIpv6Conf[] = "/proc/sys/net/ipv6/conf";
constexpr char kResolvConf[] = "/etc/resolv.conf";
constexpr char kResolvedConf[] = "/run/systemd/resolve/resolv.conf";

// Somewhere in the internet: nothing is ever sent there for it.
constexpr char kPublic4[] = "8.8.8.8";
constexpr char kPublic6[] = "2001:4860:4860::8888";

StatusOr<std::string> ReadSetting(const std::string& path) {
  const UniqueFd fd(OpenDescriptor([&] { return ::open(path.c_str(), O_RDONLY | O_CLOEXEC); }));
  std::array<char, 64> buffer;
  const ssize_t size = fd.valid() ? ::read(fd.get(), buffer.data(), buffer.size()) : -1;
  if (size < 0) return ErrnoError(errno, absl::StrCat("cannot read ", path));
  return std::string(
      absl::StripAsciiWhitespace(absl::string_view(buffer.data(), static_cast<size_t>(size))));
}

Status WriteSetting(const std::string& path, const std::string& value) {
  const UniqueFd fd(OpenDescriptor([&] { return ::open(path.c_str(), O_WRONLY | O_CLOEXEC); }));
  if (!fd.valid() || ::write(fd.get(), value.data(), value.size()) < 0) {
    return ErrnoError(errno, absl::StrCat("cannot write ", path));
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
  const UniqueFd fd(OpenDescriptor([] { return ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0); }));
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

// By which of two they are in order.
auto KeyOf(const IpRange& range) { return std::tie(range.family, range.address, range.prefix); }

bool IsLoopback(const IpRange& address) {
  return address.is_ipv4() ? address.address[0] == 127 : address.ToString() == "::1";
}

StatusOr<std::vector<IpRange>> HostAddresses() {
  std::vector<IpRange> addresses;
  ifaddrs* all = nullptr;
  if (::getifaddrs(&all) != 0) return ErrnoError(errno, "cannot list the host's addresses");
  for (const ifaddrs* it = all; it != nullptr; it = it->ifa_next) {
    const std::optional<IpRange> address = AddressOf(it->ifa_addr);
    if (address && !IsLoopback(*address) && !IsLinkLocal(*address)) addresses.push_back(*address);
  }
  ::freeifaddrs(all);
  std::sort(addresses.begin(), addresses.end(),
            [](const IpRange& a, const IpRange& b) { return KeyOf(a) < KeyOf(b); });
  return addresses;
}

// Interfaces that configure themselves by router advertisements would no longer do so.
void KeepAutoconfiguration(std::vector<KernelSetting>& changes) {
  std::error_code error;
  for (fs::directory_iterator it(kIpv6Conf, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename();
    if (name == "all" || name == "default" || name == "lo" || absl::StartsWith(name, "ctr"))
      continue;
    const std::string path = it->path() / "accept_ra";
    const StatusOr<std::string> value = ReadSetting(path);
    if (value.ok() && *value == "1") changes.push_back({path, "1", "2"});
  }
}

}  // namespace

StatusOr<HostNetwork> LookAtHost() {
  HostNetwork host;
  CTR_ASSIGN_OR_RETURN(host.addresses, HostAddresses());
  const bool has_address = std::any_of(host.addresses.begin(), host.addresses.end(),
                                       [](const IpRange& address) { return !address.is_ipv4(); });
  for (const char* text : {kPublic4, kPublic6}) {
    CTR_ASSIGN_OR_RETURN(const IpRange address, ParseIpRange(text));
    if (!address.is_ipv4() && !has_address) continue;
    CTR_ASSIGN_OR_RETURN(const uint32_t uplink, InterfaceTo(address));
    if (uplink == 0) continue;
    if (!address.is_ipv4()) host.has_ipv6 = true;
    const uint32_t mtu = MtuOf(uplink);
    if (mtu >= kLeastMtu) host.mtu = std::min(host.mtu, mtu);
  }
  return host;
}

StatusOr<std::vector<KernelSetting>> ForwardingChanges(bool ipv6) {
  std::vector<KernelSetting> changes;
  CTR_ASSIGN_OR_RETURN(const std::string forward4, ReadSetting(kIpv4Forward));
  if (forward4 != "1") changes.push_back({kIpv4Forward, forward4, "1"});
  if (!ipv6) return changes;
  CTR_ASSIGN_OR_RETURN(const std::string forward6, ReadSetting(kIpv6Forward));
  if (forward6 == "1") return changes;
  KeepAutoconfiguration(changes);
  changes.push_back({kIpv6Forward, forward6, "1"});
  return changes;
}

Status ChangeSetting(const KernelSetting& setting) {
  return WriteSetting(setting.path, setting.wanted);
}

Status RestoreSetting(const KernelSetting& setting) {
  const StatusOr<std::string> now = ReadSetting(setting.path);
  // An interface's own goes with it.
  if (!now.ok()) return absl::IsNotFound(now.status()) ? absl::OkStatus() : now.status();
  return *now == setting.wanted ? WriteSetting(setting.path, setting.had) : absl::OkStatus();
}

std::string FormatSettings(const std::vector<KernelSetting>& settings) {
  std::string text;
  for (const KernelSetting& setting : settings) {
    absl::StrAppend(&text, setting.path, " ", setting.had, " ", setting.wanted, "\n");
  }
  return text;
}

std::vector<KernelSetting> ParseSettings(std::string_view text) {
  std::vector<KernelSetting> settings;
  for (absl::string_view line : absl::StrSplit(absl::string_view(text.data(), text.size()), '\n')) {
    const std::vector<std::string> words = absl::StrSplit(line, ' ');
    // Whoever wrote the file: nothing but a setting is ever written to.
    if (words.size() != 3 || !absl::StartsWith(words[0], "/proc/sys/net/")) continue;
    settings.push_back({words[0], words[1], words[2]});
  }
  return settings;
}

ResolvConf ResolvConfForInstances(const HostNetwork& host) {
  ResolvConf conf = ParseResolvConf(ReadFileText(kResolvConf));
  const auto is_stub = [](const IpRange& address) {
    return address.is_ipv4() && address.address[0] == 127;
  };
  if (std::all_of(conf.nameservers.begin(), conf.nameservers.end(), is_stub)) {
    const ResolvConf asked = ParseResolvConf(ReadFileText(kResolvedConf));
    if (!asked.nameservers.empty()) conf = asked;
  }
  const auto is_own = [&](const IpRange& address) {
    return std::find(host.addresses.begin(), host.addresses.end(), address) != host.addresses.end();
  };
  return ForInstances(std::move(conf), is_own, host.has_ipv6);
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

std::optional<bool> HasTable(const std::string& name) {
  StatusOr<NetlinkSocket> socket = NetlinkSocket::Open(NETLINK_NETFILTER);
  if (!socket.ok()) return std::nullopt;
  const nfgenmsg message{.nfgen_family = kInetFamily, .version = NFNETLINK_V0, .res_id = 0};
  NetlinkRequest request(NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE, 0, message);
  request.AddText(NFTA_TABLE_NAME, name);
  const Status found = socket->Call(request, "netfilter");
  if (found.ok()) return true;
  return absl::IsNotFound(found) ? std::optional(false) : std::nullopt;
}

}  // namespace ctr
