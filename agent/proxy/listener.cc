#include "agent/proxy/listener.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "agent/base/descriptors.h"
#include "agent/base/fd_store.h"
#include "agent/base/ipv4.h"
#include "spdlog/spdlog.h"

namespace ctr {
namespace {

constexpr int kBacklog = 4096;  // the kernel caps it at net.core.somaxconn
constexpr int kAcceptsPerTurn = 64;
constexpr Duration kDescriptorWait = std::chrono::milliseconds(100);

// An address of either family; IPv4 inside IPv6 counts as IPv4.
struct Peer {
  uint32_t ipv4 = 0;  // host byte order; 0 of IPv6
  uint16_t port = 0;
  bool loopback = false;
  std::string text;
};

Peer Describe(const sockaddr_storage& address) {
  Peer peer;
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (address.ss_family == AF_INET) {
    const auto& ip = reinterpret_cast<const sockaddr_in&>(address);
    peer.ipv4 = ntohl(ip.sin_addr.s_addr);
    peer.port = ntohs(ip.sin_port);
  } else {
    const auto& ip = reinterpret_cast<const sockaddr_in6&>(address);
    peer.port = ntohs(ip.sin6_port);
    if (IN6_IS_ADDR_V4MAPPED(&ip.sin6_addr)) {
      std::memcpy(&peer.ipv4, &ip.sin6_addr.s6_addr[12], 4);
      peer.ipv4 = ntohl(peer.ipv4);
    } else {
      ::inet_ntop(AF_INET6, &ip.sin6_addr, text.data(), text.size());
      peer.loopback = IN6_IS_ADDR_LOOPBACK(&ip.sin6_addr);
      peer.text = text.data();
      return peer;
    }
  }
  peer.loopback = peer.ipv4 >> 24 == 127;
  peer.text = FormatIpv4(peer.ipv4);
  return peer;
}

Peer LocalAddress(int fd) {
  sockaddr_storage address = {};
  socklen_t size = sizeof address;
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  return Describe(address);
}

std::string WithPort(const Peer& peer) {
  return peer.ipv4 == 0 && peer.text.find(':') != std::string::npos
             ? absl::StrCat("[", peer.text, "]:", peer.port)
             : absl::StrCat(peer.text, ":", peer.port);
}

StatusOr<asio::ip::tcp::endpoint> ParseEndpoint(const std::string& address) {
  const size_t colon = address.rfind(':');
  std::string host = address.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  ErrorCode invalid;
  const asio::ip::address ip = asio::ip::make_address(host, invalid);
  uint32_t port = 0;
  if (colon == std::string::npos || invalid ||
      !absl::SimpleAtoi(address.substr(colon + 1), &port) || port > 65535) {
    return absl::InvalidArgumentError(absl::StrCat(
        "\"", address, "\" is no address to listen on; write IP:PORT, as in 127.0.0.1:8080"));
  }
  return asio::ip::tcp::endpoint(ip, static_cast<uint16_t>(port));
}

ListenerKind KindOf(const asio::ip::tcp::endpoint& endpoint, bool trust_ctr_headers) {
  return endpoint.address().is_loopback() || trust_ctr_headers ? ListenerKind::kTrusted
                                                               : ListenerKind::kUntrusted;
}

sockaddr_in SocketAddress(uint32_t address, uint16_t port) {
  sockaddr_in endpoint = {};
  endpoint.sin_family = AF_INET;
  endpoint.sin_addr.s_addr = htonl(address);
  endpoint.sin_port = htons(port);
  return endpoint;
}

void SetOption(int fd, int level, int option, int value) {
  ::setsockopt(fd, level, option, &value, sizeof value);
}

// A client that vanished without a word is noticed within two minutes: it would keep its instance
// awake for ever.
void KeepAlive(int fd) {
  SetOption(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  SetOption(fd, IPPROTO_TCP, TCP_KEEPIDLE, 60);
  SetOption(fd, IPPROTO_TCP, TCP_KEEPINTVL, 10);
  SetOption(fd, IPPROTO_TCP, TCP_KEEPCNT, 6);
}

// 0 with a connection, or errno.
int AcceptOne(const Listener& listener, Accepted& accepted) {
  sockaddr_storage address = {};
  socklen_t size = sizeof address;
  UniqueFd fd(OpenDescriptor([&] {
    return ::accept4(listener.fd(), reinterpret_cast<sockaddr*>(&address), &size,
                     SOCK_CLOEXEC | SOCK_NONBLOCK);
  }));
  if (!fd.valid()) return errno;
  SetOption(fd.get(), IPPROTO_TCP, TCP_NODELAY, 1);
  Peer peer = Describe(address);
  if (!peer.loopback) KeepAlive(fd.get());
  const Peer local = LocalAddress(fd.get());
  accepted.fd = std::move(fd);
  accepted.kind = listener.kind();
  accepted.local_address = local.ipv4;
  accepted.local_port = local.port;
  accepted.peer = std::move(peer.text);
  accepted.loopback = peer.loopback;
  return 0;
}

// Says once a second how clients fare that find no place.
class ShortageLog {
 public:
  void TurnedAway(const std::string& address, std::string_view why) {
    ++count_;
    if (!IsTime()) return;
    spdlog::warn("{}: {} clients turned away: {}", address, count_, why);
    count_ = 0;
  }
  void CannotAccept(const std::string& address, int error_number) {
    if (!IsTime()) return;
    spdlog::warn("cannot accept on {}: {}; clients wait", address, std::strerror(error_number));
  }

 private:
  bool IsTime() {
    const MonoTime now = std::chrono::steady_clock::now();
    if (now - last_ < std::chrono::seconds(1)) return false;
    last_ = now;
    return true;
  }

  size_t count_ = 0;
  MonoTime last_;  // the epoch: long ago
};

enum class AcceptError { kNothingThere, kTransient, kExhausted, kClosed };

AcceptError Classify(int error_number) {
  switch (error_number) {
    case EAGAIN:
      return AcceptError::kNothingThere;
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
      return AcceptError::kExhausted;
    case EINVAL:
    case EBADF:
      return AcceptError::kClosed;
    default:  // of the one connection, which is gone
      return AcceptError::kTransient;
  }
}

}  // namespace

StatusOr<std::shared_ptr<Listener>> Listener::Bind(const sockaddr* address, socklen_t size,
                                                   ListenerKind kind) {
  UniqueFd fd(::socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return ErrnoError(errno, "socket");
  SetOption(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1);
  if (::bind(fd.get(), address, size) != 0 || ::listen(fd.get(), kBacklog) != 0) {
    if (errno != EADDRINUSE) return ErrnoError(errno, "bind");
    return Error(absl::StatusCode::kAlreadyExists, code::kInUse, "the address is in use");
  }
  std::string text = WithPort(LocalAddress(fd.get()));
  return std::shared_ptr<Listener>(new Listener(std::move(fd), kind, std::move(text)));
}

StatusOr<std::shared_ptr<Listener>> Listener::Open(const std::string& address,
                                                   bool trust_ctr_headers) {
  CTR_ASSIGN_OR_RETURN(const asio::ip::tcp::endpoint endpoint, ParseEndpoint(address));
  auto listener = Bind(endpoint.data(), static_cast<socklen_t>(endpoint.size()),
                       KindOf(endpoint, trust_ctr_headers));
  if (listener.ok()) return listener;
  if (absl::IsAlreadyExists(listener.status())) {
    return Error(
        absl::StatusCode::kAlreadyExists, code::kInUse,
        absl::StrCat("cannot listen on ", address,
                     ": another server has this address; find it with: ss -ltnp 'sport = :",
                     endpoint.port(), "', or give ctr-agent another one with --http"));
  }
  return Annotate(listener.status(), absl::StrCat("cannot listen on ", address));
}

StatusOr<std::shared_ptr<Listener>> Listener::OpenSteered(uint32_t address, uint16_t port) {
  const sockaddr_in endpoint = SocketAddress(address, port);
  return Bind(reinterpret_cast<const sockaddr*>(&endpoint), sizeof endpoint,
              ListenerKind::kSteered);
}

StatusOr<std::shared_ptr<Listener>> Listener::Resume(UniqueFd fd, const std::string& address,
                                                     bool trust_ctr_headers) {
  CTR_ASSIGN_OR_RETURN(const asio::ip::tcp::endpoint endpoint, ParseEndpoint(address));
  return Resume(std::move(fd), endpoint.data(), KindOf(endpoint, trust_ctr_headers));
}

StatusOr<std::shared_ptr<Listener>> Listener::ResumeSteered(UniqueFd fd, uint32_t address,
                                                            uint16_t port) {
  const sockaddr_in endpoint = SocketAddress(address, port);
  return Resume(std::move(fd), reinterpret_cast<const sockaddr*>(&endpoint),
                ListenerKind::kSteered);
}

StatusOr<std::shared_ptr<Listener>> Listener::Resume(UniqueFd fd, const sockaddr* address,
                                                     ListenerKind kind) {
  CTR_RETURN_IF_ERROR(CheckListening(fd.get(), address->sa_family));
  sockaddr_storage wanted = {};
  std::memcpy(&wanted, address,
              address->sa_family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6));
  const Peer want = Describe(wanted);
  const Peer have = LocalAddress(fd.get());
  if (have.text != want.text || (want.port != 0 && have.port != want.port)) {
    return absl::InvalidArgumentError(
        absl::StrCat("it listens on ", WithPort(have), ", not on ", WithPort(want)));
  }
  if (::fcntl(fd.get(), F_SETFL, O_NONBLOCK) != 0) return ErrnoError(errno, "fcntl");
  return std::shared_ptr<Listener>(new Listener(std::move(fd), kind, WithPort(have)));
}

awaitable<void> AcceptOn(std::shared_ptr<Listener> listener, ConnectionSink sink) {
  auto executor = co_await asio::this_coro::executor;
  // A descriptor of its own, as Asio closes what it waits on.
  UniqueFd duplicate = CopyDescriptor(listener->fd());
  if (!duplicate.valid()) {
    spdlog::error("cannot accept on {}: {}", listener->address(), std::strerror(errno));
    co_return;
  }
  asio::posix::stream_descriptor waiter(executor, duplicate.Release());
  asio::steady_timer pause(executor);
  ShortageLog shortage;
  ErrorCode error;
  while (!error) {
    co_await waiter.async_wait(asio::posix::stream_descriptor::wait_read,
                               asio::redirect_error(use_awaitable, error));
    for (int i = 0; i < kAcceptsPerTurn && !error; ++i) {
      Accepted accepted;
      const int failure = AcceptOne(*listener, accepted);
      if (failure == 0 && DescriptorsAreScarce()) {
        shortage.TurnedAway(listener->address(), "no file descriptors are left");
        continue;
      }
      if (failure == 0) {
        std::optional<std::string_view> refused = sink(std::move(accepted));
        if (refused) shortage.TurnedAway(listener->address(), *refused);
        continue;
      }
      const AcceptError kind = Classify(failure);
      if (kind == AcceptError::kClosed) co_return;
      if (kind == AcceptError::kNothingThere) break;
      if (kind == AcceptError::kExhausted) {
        shortage.CannotAccept(listener->address(), failure);
        pause.expires_after(kDescriptorWait);
        co_await pause.async_wait(asio::redirect_error(use_awaitable, error));
      }
    }
  }
}

}  // namespace ctr
