#include "agent/base/netns.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/nsfs.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/base/descriptors.h"
#include "agent/base/living_thread.h"
#include "agent/base/netlink.h"

namespace ctr {
namespace {

constexpr uint8_t kTcpListen = 10;  // TCP_LISTEN of the kernel's net/tcp_states.h
constexpr int kLoopbackIndex = 1;   // lo is the first interface of every namespace

int HomeNamespace() {
  static const int fd = ::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
  return fd;
}

// EEXIST counts as done.
Status Done(const Status& status) {
  return absl::IsAlreadyExists(status) ? absl::OkStatus() : status;
}

Status AddAddress(NetlinkSocket& socket, uint32_t ipv4) {
  const ifaddrmsg message{.ifa_family = AF_INET,
                          .ifa_prefixlen = 32,
                          .ifa_flags = 0,
                          .ifa_scope = RT_SCOPE_HOST,
                          .ifa_index = kLoopbackIndex};
  NetlinkRequest request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, message);
  request.Add(IFA_ADDRESS, ipv4);
  request.Add(IFA_LOCAL, ipv4);
  return Done(socket.Call(request, "an address for lo"));
}

Status RaiseLoopback(NetlinkSocket& socket) {
  ifinfomsg message = {};
  message.ifi_index = kLoopbackIndex;
  message.ifi_flags = IFF_UP;
  message.ifi_change = IFF_UP;
  return Done(socket.Call(NetlinkRequest(RTM_NEWLINK, 0, message), "bringing lo up"));
}

bool IsIpv6Only(const nlmsghdr* header, const inet_diag_msg* message) {
  int length = static_cast<int>(header->nlmsg_len - NLMSG_LENGTH(sizeof *message));
  for (auto* attribute = reinterpret_cast<const rtattr*>(message + 1); RTA_OK(attribute, length);
       attribute = RTA_NEXT(attribute, length)) {
    if (attribute->rta_type == INET_DIAG_SKV6ONLY) {
      return *static_cast<const uint8_t*>(RTA_DATA(attribute)) != 0;
    }
  }
  return false;
}

ListeningSocket Describe(const nlmsghdr* header) {
  const auto* message = static_cast<const inet_diag_msg*>(NLMSG_DATA(header));
  ListeningSocket socket;
  socket.port = ntohs(message->id.idiag_sport);
  if (message->idiag_family == AF_INET) {
    socket.ipv4 = message->id.idiag_src[0];
    socket.any_address = socket.ipv4 == 0;
    socket.loopback = (ntohl(socket.ipv4) >> 24) == 127;
  } else {
    in6_addr address;
    std::memcpy(&address, message->id.idiag_src, sizeof address);
    if (IN6_IS_ADDR_V4MAPPED(&address)) {
      std::memcpy(&socket.ipv4, &address.s6_addr[12], 4);
      socket.any_address = socket.ipv4 == 0;
      socket.loopback = (ntohl(socket.ipv4) >> 24) == 127;
    } else {
      socket.any_address = IN6_IS_ADDR_UNSPECIFIED(&address) && !IsIpv6Only(header, message);
    }
  }
  return socket;
}

}  // namespace

const uint32_t NetworkNamespace::kAgentAddress = htonl(0xA9FE4D01);     // 169.254.77.1
const uint32_t NetworkNamespace::kInstanceAddress = htonl(0xA9FE4D02);  // 169.254.77.2

StatusOr<NetworkNamespace> NetworkNamespace::OfProcess(int pid) {
  return Open(absl::StrCat("/proc/", LivingThread(pid), "/ns/net"));
}

StatusOr<NetworkNamespace> NetworkNamespace::Current() { return Open("/proc/thread-self/ns/net"); }

// On a thread of its own, which ends: no thread that serves is ever in a wrong namespace for it.
StatusOr<NetworkNamespace> NetworkNamespace::Make() {
  StatusOr<NetworkNamespace> made = absl::InternalError("");
  std::thread maker([&made] {
    if (::unshare(CLONE_NEWNET) != 0) {
      made = ErrnoError(errno, "cannot make a network namespace");
    } else {
      made = Current();
    }
  });
  maker.join();
  return made;
}

StatusOr<NetworkNamespace> NetworkNamespace::FromDescriptor(UniqueFd fd) {
  if (::ioctl(fd.get(), NS_GET_NSTYPE) != CLONE_NEWNET) {
    return absl::InvalidArgumentError("it is no network namespace");
  }
  return NetworkNamespace(std::move(fd));
}

StatusOr<NetworkNamespace> NetworkNamespace::Open(const std::string& path) {
  UniqueFd fd(OpenDescriptor([&path] { return ::open(path.c_str(), O_RDONLY | O_CLOEXEC); }));
  if (!fd.valid()) return ErrnoError(errno, path);
  return NetworkNamespace(std::move(fd));
}

StatusOr<UniqueFd> NetworkNamespace::Socket(int domain, int type, int protocol) const {
  int home = HomeNamespace();
  if (home < 0) return absl::InternalError("cannot open /proc/self/ns/net");
  if (::setns(fd_.get(), CLONE_NEWNET) != 0) {
    return ErrnoError(errno, "cannot enter the instance's network namespace");
  }
  UniqueFd socket(OpenDescriptor([=] { return ::socket(domain, type | SOCK_CLOEXEC, protocol); }));
  int socket_errno = errno;
  if (::setns(home, CLONE_NEWNET) != 0) std::abort();
  if (!socket.valid())
    return ErrnoError(socket_errno, "socket in the instance's network namespace");
  return socket;
}

Status NetworkNamespace::PrepareLoopback() const {
  CTR_ASSIGN_OR_RETURN(UniqueFd fd, Socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
  NetlinkSocket socket(std::move(fd));
  CTR_RETURN_IF_ERROR(RaiseLoopback(socket));
  CTR_RETURN_IF_ERROR(AddAddress(socket, kAgentAddress));
  return AddAddress(socket, kInstanceAddress);
}

StatusOr<ListenProbe> ListenProbe::In(const NetworkNamespace& netns) {
  CTR_ASSIGN_OR_RETURN(UniqueFd fd, netns.Socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG));
  return ListenProbe(std::move(fd));
}

StatusOr<std::vector<ListeningSocket>> ListenProbe::List() {
  std::vector<ListeningSocket> sockets;
  for (uint8_t family : {AF_INET, AF_INET6}) {
    struct {
      nlmsghdr header;
      inet_diag_req_v2 request;
    } message = {};
    message.header.nlmsg_len = sizeof message;
    message.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
    message.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    message.header.nlmsg_seq = ++sequence_;
    message.request.sdiag_family = family;
    message.request.sdiag_protocol = IPPROTO_TCP;
    message.request.idiag_states = 1u << kTcpListen;
    if (::send(fd_.get(), &message, sizeof message, 0) < 0)
      return ErrnoError(errno, "sock_diag send");
    alignas(nlmsghdr) std::array<char, 32768> buffer;
    for (bool done = false; !done;) {
      ssize_t received = ::recv(fd_.get(), buffer.data(), buffer.size(), 0);
      if (received < 0) return ErrnoError(errno, "sock_diag receive");
      auto left = static_cast<size_t>(received);
      for (auto* header = reinterpret_cast<nlmsghdr*>(buffer.data()); NLMSG_OK(header, left);
           header = NLMSG_NEXT(header, left)) {
        if (header->nlmsg_type == NLMSG_DONE) {
          done = true;
          break;
        }
        // A kernel without the family's diag module says so; the other family is still listed.
        if (header->nlmsg_type == NLMSG_ERROR) {
          done = true;
          break;
        }
        sockets.push_back(Describe(header));
      }
    }
  }
  return sockets;
}

}  // namespace ctr
