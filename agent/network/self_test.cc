#include "agent/network/self_test.h"

#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/base/descriptors.h"
#include "agent/base/time.h"
#include "agent/network/link.h"

namespace ctr {
namespace {

constexpr Duration kAnswerWithin = std::chrono::seconds(2);
constexpr size_t kMostAttempts = 16;

struct SocketAddress {
  sockaddr_storage storage = {};
  socklen_t size = 0;
};

SocketAddress ToSocketAddress(const IpRange& address, uint16_t port) {
  SocketAddress result;
  if (address.is_ipv4()) {
    auto* in = reinterpret_cast<sockaddr_in*>(&result.storage);
    in->sin_family = AF_INET;
    in->sin_port = htons(port);
    std::memcpy(&in->sin_addr, address.address.data(), 4);
    result.size = sizeof *in;
  } else {
    auto* in = reinterpret_cast<sockaddr_in6*>(&result.storage);
    in->sin6_family = AF_INET6;
    in->sin6_port = htons(port);
    std::memcpy(&in->sin6_addr, address.address.data(), 16);
    result.size = sizeof *in;
  }
  return result;
}

// On every address of the host, at a free port.
struct Listener {
  UniqueFd fd;
  uint16_t port = 0;
};
StatusOr<Listener> Listen(int family) {
  Listener listener;
  listener.fd = UniqueFd(
      OpenDescriptor([family] { return ::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0); }));
  const int on = 1;
  if (family == AF_INET6) {
    ::setsockopt(listener.fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  }
  SocketAddress any =
      ToSocketAddress(IpRangeOf(std::string(family == AF_INET ? 4 : 16, '\0'), 0), 0);
  auto* address = reinterpret_cast<sockaddr*>(&any.storage);
  if (!listener.fd.valid() || ::bind(listener.fd.get(), address, any.size) != 0 ||
      ::listen(listener.fd.get(), 1) != 0 ||
      ::getsockname(listener.fd.get(), address, &any.size) != 0) {
    return ErrnoError(errno, "cannot listen");
  }
  listener.port =
      ntohs(family == AF_INET ? reinterpret_cast<sockaddr_in*>(&any.storage)->sin_port
                              : reinterpret_cast<sockaddr_in6*>(&any.storage)->sin6_port);
  return listener;
}

// A connection that is being tried.
struct Attempt {
  std::string target;
  UniqueFd socket;
  int error = EINPROGRESS;
};

StatusOr<Attempt> Begin(const NetworkNamespace& netns, const IpRange& address, uint16_t port) {
  Attempt attempt;
  attempt.target = absl::StrCat(address.ToString(), " port ", port);
  CTR_ASSIGN_OR_RETURN(attempt.socket, netns.Socket(address.is_ipv4() ? AF_INET : AF_INET6,
                                                    SOCK_STREAM | SOCK_NONBLOCK, 0));
  const SocketAddress to = ToSocketAddress(address, port);
  if (::connect(attempt.socket.get(), reinterpret_cast<const sockaddr*>(&to.storage), to.size) !=
      0) {
    attempt.error = errno;
  } else {
    attempt.error = 0;
  }
  return attempt;
}

void Await(std::vector<Attempt>& attempts) {
  const MonoTime deadline = std::chrono::steady_clock::now() + kAnswerWithin;
  for (Attempt& attempt : attempts) {
    if (attempt.error != EINPROGRESS) continue;
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        std::max(deadline - std::chrono::steady_clock::now(), Duration::zero()));
    pollfd ended{.fd = attempt.socket.get(), .events = POLLOUT, .revents = 0};
    if (::poll(&ended, 1, static_cast<int>(left.count())) <= 0) continue;
    socklen_t size = sizeof attempt.error;
    ::getsockopt(attempt.socket.get(), SOL_SOCKET, SO_ERROR, &attempt.error, &size);
  }
}

bool IsAnyIn(const IpRange& address, const std::vector<IpRange>& ranges) {
  return std::any_of(ranges.begin(), ranges.end(),
                     [&](const IpRange& range) { return range.Contains(address); });
}

// To a listener at each of the host's addresses.
StatusOr<std::vector<Attempt>> BeginInwards(const NetworkNamespace& netns, const HostNetwork& host,
                                            const Listener& ipv4, const Listener& ipv6) {
  std::vector<Attempt> attempts;
  for (const IpRange& address : host.addresses) {
    if (!address.is_ipv4() && !host.has_ipv6) continue;
    CTR_ASSIGN_OR_RETURN(Attempt attempt,
                         Begin(netns, address, address.is_ipv4() ? ipv4.port : ipv6.port));
    attempts.push_back(std::move(attempt));
    if (attempts.size() == kMostAttempts) break;
  }
  return attempts;
}

}  // namespace

Status TestRules(const NetworkNamespace& netns, const HostNetwork& host,
                 const std::vector<IpRange>& allowed) {
  CTR_ASSIGN_OR_RETURN(const Listener ipv4, Listen(AF_INET));
  Listener ipv6;
  if (host.has_ipv6) {
    CTR_ASSIGN_OR_RETURN(ipv6, Listen(AF_INET6));
  }
  CTR_ASSIGN_OR_RETURN(std::vector<Attempt> attempts, BeginInwards(netns, host, ipv4, ipv6));
  const size_t inwards = attempts.size();
  CTR_ASSIGN_OR_RETURN(const IpRange metadata, ParseIpRange("169.254.169.254"));
  if (!IsAnyIn(metadata, allowed)) {
    CTR_ASSIGN_OR_RETURN(Attempt attempt, Begin(netns, metadata, 80));
    attempts.push_back(std::move(attempt));
  }
  Await(attempts);
  for (const Attempt& tried : attempts) {
    if (tried.error != 0) continue;
    return absl::FailedPreconditionError(absl::StrCat(
        "the network's rules do not work: from inside an instance ", tried.target, " answers"));
  }
  // A host without an address has nothing to refuse.
  const auto is_refused = [](const Attempt& tried) { return tried.error == ECONNREFUSED; };
  const auto end = attempts.begin() + static_cast<std::ptrdiff_t>(inwards);
  if (inwards == 0 || std::any_of(attempts.begin(), end, is_refused)) return absl::OkStatus();
  return absl::FailedPreconditionError(
      "the network's rules do not work: from inside an instance nothing is refused; another "
      "firewall may be in the way");
}

Status TestLinks() {
  CTR_ASSIGN_OR_RETURN(const NetworkNamespace inner, NetworkNamespace::Make());
  Status made;
  // What is the host's side here is a namespace of this thread's own.
  std::thread tester([&] {
    if (::unshare(CLONE_NEWNET) != 0) {
      made = ErrnoError(errno, "cannot make a network namespace");
      return;
    }
    made = AddLink(inner, {.name = "ctr-probe",
                           .container_id = "test",
                           .ipv4 = IpRangeOf(std::string_view("\x0a\xc0\x00\x02", 4), 32),
                           .ipv6 = std::nullopt});
  });
  tester.join();
  return made;
}

}  // namespace ctr
