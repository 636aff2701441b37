#include "agent/network/link.h"

#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/veth.h>
#include <net/if.h>

#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "agent/base/netlink.h"

namespace ctr {
namespace {

constexpr char kInnerName[] = "eth0";
// Behind what a kernel may make in every namespace by itself (tunl0, sit0 …).
constexpr int kInnerIndex = 77;
constexpr char kAlternativePrefix[] = "ctr-";
// Both ends have the same, locally administered: without ARP each takes its own for the other's.
constexpr uint8_t kHardwareAddress[6] = {0x02, 0x63, 0x74, 0x72, 0x00, 0x01};

// The next hops out of the namespace: nobody has these addresses, there is just the other end.
const IpRange& Gateway(bool is_ipv4) {
  static const auto& ipv4 = *new IpRange(ParseIpRange("169.254.77.3").value_or(IpRange()));
  static const auto& ipv6 = *new IpRange(ParseIpRange("fe80::1").value_or(IpRange()));
  return is_ipv4 ? ipv4 : ipv6;
}

uint8_t FamilyOf(const IpRange& range) { return range.is_ipv4() ? AF_INET : AF_INET6; }

std::string AlternativeName(const std::string& container_id) {
  return absl::StrCat(kAlternativePrefix, container_id);
}

// As many messages as one needs.
StatusOr<NetlinkSocket> OpenRoute() { return NetlinkSocket::Open(NETLINK_ROUTE); }

ifinfomsg UpWithoutArp(int index) {
  ifinfomsg message = {};
  message.ifi_index = index;
  message.ifi_flags = IFF_UP | IFF_NOARP;
  message.ifi_change = IFF_UP | IFF_NOARP;
  return message;
}

NetlinkRequest PairRequest(const NetworkNamespace& netns, const LinkSpec& spec) {
  NetlinkRequest request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, UpWithoutArp(0));
  request.AddText(IFLA_IFNAME, spec.name);
  request.Add(IFLA_MTU, spec.mtu);
  request.Add(IFLA_ADDRESS, kHardwareAddress, sizeof kHardwareAddress);
  const size_t info = request.Begin(IFLA_LINKINFO);
  request.AddText(IFLA_INFO_KIND, "veth");
  const size_t data = request.Begin(IFLA_INFO_DATA);
  const size_t peer = request.Begin(VETH_INFO_PEER, UpWithoutArp(kInnerIndex));
  request.AddText(IFLA_IFNAME, kInnerName);
  request.Add(IFLA_MTU, spec.mtu);
  request.Add(IFLA_ADDRESS, kHardwareAddress, sizeof kHardwareAddress);
  request.Add(IFLA_NET_NS_FD, static_cast<uint32_t>(netns.fd()));
  request.End(peer);
  request.End(data);
  request.End(info);
  return request;
}

NetlinkRequest NameRequest(const LinkSpec& spec, uint32_t index) {
  ifinfomsg message = {};
  message.ifi_index = static_cast<int>(index);
  NetlinkRequest request(RTM_NEWLINKPROP, NLM_F_CREATE | NLM_F_EXCL, message);
  const size_t list = request.Begin(IFLA_PROP_LIST | NLA_F_NESTED);
  request.AddText(IFLA_ALT_IFNAME, AlternativeName(spec.container_id));
  request.End(list);
  return request;
}

rtmsg RouteMessage(uint8_t family, int prefix, uint8_t type) {
  rtmsg message = {};
  message.rtm_family = family;
  message.rtm_dst_len = static_cast<uint8_t>(prefix);
  message.rtm_table = RT_TABLE_MAIN;
  message.rtm_protocol = kRouteProtocol;
  message.rtm_scope = RT_SCOPE_UNIVERSE;
  message.rtm_type = type;
  return message;
}

// On the host: to the instance's address through this interface.
NetlinkRequest InwardRoute(const IpRange& address, uint32_t index) {
  rtmsg message = RouteMessage(FamilyOf(address), address.prefix, RTN_UNICAST);
  if (address.is_ipv4()) message.rtm_scope = RT_SCOPE_LINK;
  NetlinkRequest request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, message);
  request.Add(RTA_DST, address.address.data(), address.address_size());
  request.Add(RTA_OIF, index);
  return request;
}

// Within the namespace.
NetlinkRequest InnerAddress(const IpRange& address) {
  ifaddrmsg message = {};
  message.ifa_family = FamilyOf(address);
  message.ifa_prefixlen = static_cast<uint8_t>(address.prefix);
  message.ifa_flags = IFA_F_PERMANENT | IFA_F_NODAD;  // at once, as there is nobody to ask
  message.ifa_index = kInnerIndex;
  NetlinkRequest request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, message);
  request.Add(IFA_LOCAL, address.address.data(), address.address_size());
  request.Add(IFA_ADDRESS, address.address.data(), address.address_size());
  return request;
}

NetlinkRequest OutwardRoute(const IpRange& address) {
  const IpRange& gateway = Gateway(address.is_ipv4());
  rtmsg message = RouteMessage(FamilyOf(address), 0, RTN_UNICAST);
  message.rtm_flags = RTNH_F_ONLINK;
  NetlinkRequest request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, message);
  request.Add(RTA_GATEWAY, gateway.address.data(), gateway.address_size());
  request.Add(RTA_PREFSRC, address.address.data(), address.address_size());
  request.Add(RTA_OIF, static_cast<uint32_t>(kInnerIndex));
  return request;
}

Status Furnish(NetlinkSocket& host, const NetworkNamespace& netns, const LinkSpec& spec) {
  const uint32_t index = ::if_nametoindex(spec.name.c_str());
  if (index == 0) return ErrnoError(errno, absl::StrCat("interface ", spec.name));
  CTR_RETURN_IF_ERROR(host.Call(NameRequest(spec, index), "naming the interface"));
  CTR_ASSIGN_OR_RETURN(UniqueFd inner, netns.Socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
  NetlinkSocket inside(std::move(inner));
  std::vector<IpRange> addresses = {spec.ipv4};
  if (spec.ipv6) addresses.push_back(*spec.ipv6);
  for (const IpRange& address : addresses) {
    const std::string what = address.ToString();
    CTR_RETURN_IF_ERROR(host.Call(InwardRoute(address, index), "route to " + what));
    CTR_RETURN_IF_ERROR(inside.Call(InnerAddress(address), "address " + what));
    CTR_RETURN_IF_ERROR(inside.Call(OutwardRoute(address), "the default route"));
  }
  return absl::OkStatus();
}

Status IgnoreNotFound(const Status& status) {
  return absl::IsNotFound(status) ? absl::OkStatus() : status;
}

Status RemoveNamed(int attribute, const std::string& name) {
  CTR_ASSIGN_OR_RETURN(NetlinkSocket host, OpenRoute());
  NetlinkRequest request(RTM_DELLINK, 0, ifinfomsg{});
  request.AddText(attribute, name);
  return IgnoreNotFound(host.Call(request, "removing the interface " + name));
}

NetlinkRequest ClaimRequest(uint16_t type, int flags, const IpRange& subnet, uint32_t owner) {
  NetlinkRequest request(type, flags,
                         RouteMessage(FamilyOf(subnet), subnet.prefix, RTN_UNREACHABLE));
  request.Add(RTA_DST, subnet.address.data(), subnet.address_size());
  request.Add(RTA_PRIORITY, owner);
  return request;
}

template <typename Body>
bool Split(std::string_view message, Body& body, std::string_view& attributes) {
  if (message.size() < sizeof body) return false;
  std::memcpy(&body, message.data(), sizeof body);
  attributes = message.substr(std::min<size_t>(NLMSG_ALIGN(sizeof body), message.size()));
  return true;
}

}  // namespace

Status AddLink(const NetworkNamespace& netns, const LinkSpec& spec) {
  CTR_ASSIGN_OR_RETURN(NetlinkSocket host, OpenRoute());
  CTR_RETURN_IF_ERROR(host.Call(PairRequest(netns, spec), "making the interface " + spec.name));
  Status furnished = Furnish(host, netns, spec);
  if (furnished.ok()) return furnished;
  RemoveLinkByName(spec.name).IgnoreError();
  // Not the name, so another one would not help.
  return absl::IsAlreadyExists(furnished) ? absl::InternalError(furnished.message()) : furnished;
}

Status RemoveLink(const std::string& container_id) {
  return RemoveNamed(IFLA_ALT_IFNAME, AlternativeName(container_id));
}

Status RemoveLinkByName(const std::string& name) { return RemoveNamed(IFLA_IFNAME, name); }

StatusOr<std::vector<FoundLink>> ListLinks(const std::string& prefix) {
  CTR_ASSIGN_OR_RETURN(NetlinkSocket host, OpenRoute());
  std::vector<FoundLink> found;
  const auto take = [&](uint16_t, std::string_view message) {
    ifinfomsg body;
    std::string_view bytes;
    if (!Split(message, body, bytes)) return;
    const NetlinkAttributes attributes(bytes);
    FoundLink link{attributes.Text(IFLA_IFNAME), ""};
    if (!absl::StartsWith(link.name, prefix)) return;
    // One alternative name is all that ours have.
    const std::string name =
        NetlinkAttributes(attributes.Find(IFLA_PROP_LIST)).Text(IFLA_ALT_IFNAME);
    link.container_id = std::string(absl::StripPrefix(name, kAlternativePrefix));
    found.push_back(std::move(link));
  };
  CTR_RETURN_IF_ERROR(
      host.Ask(NetlinkRequest(RTM_GETLINK, NLM_F_DUMP, ifinfomsg{}), "listing interfaces", take));
  return found;
}

StatusOr<std::vector<Route>> ListRoutes() {
  CTR_ASSIGN_OR_RETURN(NetlinkSocket host, OpenRoute());
  std::vector<Route> routes;
  const auto take = [&](uint16_t, std::string_view message) {
    rtmsg body;
    std::string_view bytes;
    if (!Split(message, body, bytes) || (body.rtm_flags & RTM_F_CLONED) != 0) return;
    if (body.rtm_family != AF_INET && body.rtm_family != AF_INET6) return;
    const NetlinkAttributes attributes(bytes);
    std::string address(attributes.Find(RTA_DST));
    address.resize(body.rtm_family == AF_INET ? 4 : 16);
    routes.push_back({.destination = IpRangeOf(address, body.rtm_dst_len),
                      .interface = attributes.Number(RTA_OIF),
                      .metric = attributes.Number(RTA_PRIORITY),
                      .protocol = body.rtm_protocol});
  };
  CTR_RETURN_IF_ERROR(
      host.Ask(NetlinkRequest(RTM_GETROUTE, NLM_F_DUMP, rtmsg{}), "listing routes", take));
  return routes;
}

Status ClaimSubnet(const IpRange& subnet, uint32_t owner) {
  CTR_ASSIGN_OR_RETURN(NetlinkSocket host, OpenRoute());
  Status claimed = host.Call(ClaimRequest(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, subnet, owner),
                             absl::StrCat("claiming ", subnet.ToString()));
  return absl::IsAlreadyExists(claimed) ? absl::OkStatus() : claimed;
}

Status ReleaseSubnet(const IpRange& subnet, uint32_t owner) {
  CTR_ASSIGN_OR_RETURN(NetlinkSocket host, OpenRoute());
  return IgnoreNotFound(host.Call(ClaimRequest(RTM_DELROUTE, 0, subnet, owner),
                                  absl::StrCat("releasing ", subnet.ToString())));
}

}  // namespace ctr
