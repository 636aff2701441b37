#include "agent/network/link.h"

#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <chrono>
#include <cstring>
#include <functional>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "agent/base/descriptors.h"
#include "agent/base/netlink.h"

namespace ctr {
namespace {

constexpr std::chrono::seconds kPatience(1);
constexpr char kOperUp = 6;  // IF_OPER_UP of linux/if.h, which net/if.h excludes
constexpr char kInnerName[] = "eth0";
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

ifinfomsg UpWithoutArp(uint32_t index) {
  ifinfomsg message = {};
  message.ifi_index = static_cast<int>(index);
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
  // It can't be up before it has its counterpart.
  const size_t peer = request.Begin(VETH_INFO_PEER, ifinfomsg{});
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
NetlinkRequest InnerAddress(const IpRange& address, uint32_t index) {
  ifaddrmsg message = {};
  message.ifa_family = FamilyOf(address);
  message.ifa_prefixlen = static_cast<uint8_t>(address.prefix);
  message.ifa_flags = IFA_F_PERMANENT | IFA_F_NODAD;  // at once, as there is nobody to ask
  message.ifa_index = index;
  NetlinkRequest request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, message);
  request.Add(IFA_LOCAL, address.address.data(), address.address_size());
  request.Add(IFA_ADDRESS, address.address.data(), address.address_size());
  return request;
}

NetlinkRequest OutwardRoute(const IpRange& address, uint32_t index) {
  const IpRange& gateway = Gateway(address.is_ipv4());
  rtmsg message = RouteMessage(FamilyOf(address), 0, RTN_UNICAST);
  message.rtm_flags = RTNH_F_ONLINK;
  NetlinkRequest request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, message);
  request.Add(RTA_GATEWAY, gateway.address.data(), gateway.address_size());
  request.Add(RTA_PREFSRC, address.address.data(), address.address_size());
  request.Add(RTA_OIF, index);
  return request;
}

template <typename Body>
bool Split(std::string_view message, Body& body, std::string_view& attributes) {
  if (message.size() < sizeof body) return false;
  std::memcpy(&body, message.data(), sizeof body);
  attributes = message.substr(std::min<size_t>(NLMSG_ALIGN(sizeof body), message.size()));
  return true;
}

// Asks again and again until the kernel says so, or a while is over: it comes all the same.
Status Await(NetlinkSocket& socket, const NetlinkRequest& request, std::string_view what,
             const std::function<bool(std::string_view answer)>& is_done) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  for (bool done = false; !done && std::chrono::steady_clock::now() < deadline;) {
    const auto take = [&](uint16_t, std::string_view answer) { done = is_done(answer); };
    CTR_RETURN_IF_ERROR(socket.Ask(request, what, take));
    if (!done) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return absl::OkStatus();
}

// The kernel does the last steps of bringing an interface up later, and until then loses what is
// sent: an instance's first connection would take a second more.
Status AwaitUp(NetlinkSocket& socket, uint32_t index) {
  ifinfomsg message = {};
  message.ifi_index = static_cast<int>(index);
  return Await(socket, NetlinkRequest(RTM_GETLINK, 0, message), "waiting for an interface",
               [](std::string_view answer) {
                 ifinfomsg body;
                 std::string_view bytes;
                 if (!Split(answer, body, bytes)) return false;
                 const std::string_view state = NetlinkAttributes(bytes).Find(IFLA_OPERSTATE);
                 return !state.empty() && state[0] == kOperUp;
               });
}

// How to get to an address.
NetlinkRequest RouteRequest(const IpRange& address) {
  rtmsg message = {};
  message.rtm_family = FamilyOf(address);
  message.rtm_dst_len = static_cast<uint8_t>(address.prefix);
  NetlinkRequest request(RTM_GETROUTE, 0, message);
  request.Add(RTA_DST, address.address.data(), address.address_size());
  return request;
}

// Likewise what it has to do for an IPv6 address.
Status AwaitAddress(NetlinkSocket& inside, const IpRange& address) {
  return Await(inside, RouteRequest(address), "waiting for an address",
               [](std::string_view answer) {
                 rtmsg route;
                 std::string_view attributes;
                 return Split(answer, route, attributes) && route.rtm_type == RTN_LOCAL;
               });
}

// Of an interface in a namespace, or else in the thread's own.
StatusOr<uint32_t> IndexOf(const std::string& name, const NetworkNamespace* netns) {
  UniqueFd fd;
  if (netns != nullptr) {
    CTR_ASSIGN_OR_RETURN(fd, netns->Socket(AF_INET, SOCK_DGRAM, 0));
  } else {
    fd = UniqueFd(OpenDescriptor([] { return ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0); }));
  }
  ifreq request = {};
  name.copy(request.ifr_name, IF_NAMESIZE - 1);
  if (!fd.valid() || ::ioctl(fd.get(), SIOCGIFINDEX, &request) != 0) {
    return ErrnoError(errno, absl::StrCat("interface ", name));
  }
  return static_cast<uint32_t>(request.ifr_ifindex);
}

Status Furnish(NetlinkSocket& host, const NetworkNamespace& netns, const LinkSpec& spec) {
  CTR_ASSIGN_OR_RETURN(const uint32_t index, IndexOf(spec.name, nullptr));
  CTR_ASSIGN_OR_RETURN(const uint32_t inner_index, IndexOf(kInnerName, &netns));
  CTR_RETURN_IF_ERROR(host.Call(NameRequest(spec, index), "naming the interface"));
  CTR_ASSIGN_OR_RETURN(UniqueFd inner, netns.Socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
  NetlinkSocket inside(std::move(inner));
  CTR_RETURN_IF_ERROR(
      inside.Call(NetlinkRequest(RTM_NEWLINK, 0, UpWithoutArp(inner_index)), "bringing eth0 up"));
  std::vector<IpRange> addresses = {spec.ipv4};
  if (spec.ipv6) addresses.push_back(*spec.ipv6);
  for (const IpRange& address : addresses) {
    const std::string what = address.ToString();
    CTR_RETURN_IF_ERROR(host.Call(InwardRoute(address, index), "route to " + what));
    CTR_RETURN_IF_ERROR(inside.Call(InnerAddress(address, inner_index), "address " + what));
    CTR_RETURN_IF_ERROR(inside.Call(OutwardRoute(address, inner_index), "the default route"));
  }
  CTR_RETURN_IF_ERROR(AwaitUp(host, index));
  CTR_RETURN_IF_ERROR(AwaitUp(inside, inner_index));
  return spec.ipv6 ? AwaitAddress(inside, *spec.ipv6) : absl::OkStatus();
}

// What the kernel says where there is no such thing, or could not be (IPv6, with ipv6.disable=1).
Status IgnoreAbsent(const Status& status) {
  const bool is_absent = absl::IsNotFound(status) || absl::IsUnimplemented(status);
  return is_absent ? absl::OkStatus() : status;
}

Status RemoveNamed(int attribute, const std::string& name) {
  CTR_ASSIGN_OR_RETURN(NetlinkSocket host, OpenRoute());
  NetlinkRequest request(RTM_DELLINK, 0, ifinfomsg{});
  request.AddText(attribute, name);
  return IgnoreAbsent(host.Call(request, "removing the interface " + name));
}

NetlinkRequest ClaimRequest(uint16_t type, int flags, const IpRange& subnet, uint32_t owner) {
  NetlinkRequest request(type, flags,
                         RouteMessage(FamilyOf(subnet), subnet.prefix, RTN_UNREACHABLE));
  request.Add(RTA_DST, subnet.address.data(), subnet.address_size());
  request.Add(RTA_PRIORITY, owner);
  return request;
}

}  // namespace

Status AddLink(const NetworkNamespace& netns, const LinkSpec& spec) {
  CTR_ASSIGN_OR_RETURN(NetlinkSocket host, OpenRoute());
  const Status made = host.Call(PairRequest(netns, spec), "making the interface " + spec.name);
  // Another name would not help.
  if (absl::IsAlreadyExists(made) && IndexOf(kInnerName, &netns).ok()) {
    return absl::FailedPreconditionError("there is an eth0 already");
  }
  CTR_RETURN_IF_ERROR(made);
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

StatusOr<std::vector<HostRoute>> ListRoutes() {
  CTR_ASSIGN_OR_RETURN(NetlinkSocket host, OpenRoute());
  std::vector<HostRoute> routes;
  const auto take = [&](uint16_t, std::string_view message) {
    rtmsg body;
    std::string_view bytes;
    if (!Split(message, body, bytes) || (body.rtm_flags & RTM_F_CLONED) != 0) return;
    if (body.rtm_family != AF_INET && body.rtm_family != AF_INET6) return;
    const NetlinkAttributes attributes(bytes);
    std::string address(attributes.Find(RTA_DST));
    address.resize(body.rtm_family == AF_INET ? 4 : 16);
    routes.push_back(
        {.destination = IpRangeOf(address, body.rtm_dst_len),
         .interface = attributes.Number(RTA_OIF),
         .metric = attributes.Number(RTA_PRIORITY),
         .protocol = body.rtm_protocol,
         .is_claim = body.rtm_protocol == kRouteProtocol && body.rtm_type == RTN_UNREACHABLE});
  };
  CTR_RETURN_IF_ERROR(
      host.Ask(NetlinkRequest(RTM_GETROUTE, NLM_F_DUMP, rtmsg{}), "listing routes", take));
  return routes;
}

StatusOr<uint32_t> InterfaceTo(const IpRange& address) {
  CTR_ASSIGN_OR_RETURN(NetlinkSocket host, OpenRoute());
  uint32_t index = 0;
  const auto take = [&](uint16_t, std::string_view answer) {
    rtmsg route;
    std::string_view attributes;
    if (!Split(answer, route, attributes) || route.rtm_type != RTN_UNICAST) return;
    index = NetlinkAttributes(attributes).Number(RTA_OIF);
  };
  // An error means that there is no way.
  host.Ask(RouteRequest(address), "looking for a route", take).IgnoreError();
  return index;
}

Status ClaimSubnet(const IpRange& subnet, uint32_t owner) {
  CTR_ASSIGN_OR_RETURN(NetlinkSocket host, OpenRoute());
  Status claimed = host.Call(ClaimRequest(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, subnet, owner),
                             absl::StrCat("claiming ", subnet.ToString()));
  return absl::IsAlreadyExists(claimed) ? absl::OkStatus() : claimed;
}

Status ReleaseSubnet(const IpRange& subnet, uint32_t owner) {
  CTR_ASSIGN_OR_RETURN(NetlinkSocket host, OpenRoute());
  return IgnoreAbsent(host.Call(ClaimRequest(RTM_DELROUTE, 0, subnet, owner),
                                absl::StrCat("releasing ", subnet.ToString())));
}

}  // namespace ctr
