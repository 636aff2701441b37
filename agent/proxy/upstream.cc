#include "agent/proxy/upstream.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "agent/base/descriptors.h"

namespace ctr {
namespace {

// How long a connection may have been idle that is to take a request which can't be sent again.
constexpr Duration kFreshEnough = std::chrono::seconds(1);

sockaddr_in AddressOf(uint32_t address, uint16_t port) {
  sockaddr_in result = {};
  result.sin_family = AF_INET;
  result.sin_addr.s_addr = address;
  result.sin_port = htons(port);
  return result;
}

Status DialError(int error_number, const Endpoint& endpoint, uint16_t port) {
  std::string message = absl::StrCat("cannot connect to port ", port,
                                     " of the instance: ", std::strerror(error_number));
  if (error_number == ECONNREFUSED && !endpoint.dial_loopback) {
    absl::StrAppend(&message, "; the program must listen on 0.0.0.0, or set dial = \"loopback\"");
  }
  return Error(absl::StatusCode::kUnavailable, code::kUpstreamError, message);
}

// 0: connected. EINPROGRESS: not decided yet. Else why not.
int ConnectNow(int fd, const Endpoint& endpoint, uint16_t port) {
  const sockaddr_in target = UpstreamAddress(endpoint, port);
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&target), sizeof target) == 0) return 0;
  if (errno != EINPROGRESS) return errno;
  // Over lo the handshake is done by now, nearly always: that saves a turn of the loop.
  pollfd ready = {.fd = fd, .events = POLLOUT, .revents = 0};
  return ::poll(&ready, 1, 0) == 1 ? -1 : EINPROGRESS;
}

int TakeSocketError(int fd) {
  int error = 0;
  socklen_t size = sizeof error;
  ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
  return error;
}

// Waits until the socket is writable; ETIMEDOUT after `limit`.
awaitable<int> WaitConnected(UpstreamPtr connection, Duration limit) {
  asio::steady_timer timer(co_await asio::this_coro::executor, limit);
  auto late = std::make_shared<bool>(false);
  timer.async_wait([connection, late](ErrorCode error) {
    if (error) return;
    *late = true;
    connection->stream.Cancel();
  });
  co_await connection->stream.socket().Wait(PolledSocket::kWrite);
  co_return *late ? ETIMEDOUT : TakeSocketError(connection->stream.fd());
}

}  // namespace

StatusOr<UniqueFd> OpenUpstreamSocket(const Endpoint& endpoint, uint16_t port) {
  CTR_ASSIGN_OR_RETURN(UniqueFd fd,
                       endpoint.netns->Socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
  const int on = 1;
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (!endpoint.dial_loopback) {
    // The port is chosen at connect: by then the destination is known, and ports can be shared.
    ::setsockopt(fd.get(), IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    const sockaddr_in source = AddressOf(NetworkNamespace::kAgentAddress, 0);
    if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&source), sizeof source) != 0) {
      return DialError(errno, endpoint, port);
    }
  }
  return fd;
}

sockaddr_in UpstreamAddress(const Endpoint& endpoint, uint16_t port) {
  return AddressOf(
      endpoint.dial_loopback ? htonl(INADDR_LOOPBACK) : NetworkNamespace::kInstanceAddress, port);
}

awaitable<StatusOr<UpstreamPtr>> Dial(Poller& poller, std::shared_ptr<const Endpoint> endpoint,
                                      uint16_t port, Duration limit) {
  if (!MayTakeDescriptor()) {
    co_return Error(absl::StatusCode::kUnavailable, code::kOverloaded,
                    "the agent has no file descriptors left; try again, or raise its limit");
  }
  StatusOr<UniqueFd> fd = OpenUpstreamSocket(*endpoint, port);
  if (!fd.ok()) {
    co_return Error(absl::StatusCode::kUnavailable, code::kUpstreamError,
                    std::string(fd.status().message()));
  }
  int error = ConnectNow(fd->get(), *endpoint, port);
  if (error > 0 && error != EINPROGRESS) co_return DialError(error, *endpoint, port);
  const auto first =
      error == EINPROGRESS ? PolledSocket::First::kConnecting : PolledSocket::First::kReady;
  auto connection =
      std::make_shared<UpstreamConnection>(poller, *std::move(fd), first, endpoint, port);
  if (error == EINPROGRESS) {
    error = co_await WaitConnected(connection, limit);
  } else if (error < 0) {
    error = TakeSocketError(connection->stream.fd());
  }
  if (error != 0) co_return DialError(error, *endpoint, port);
  co_return connection;
}

UpstreamPtr UpstreamPool::Take(const std::shared_ptr<const Endpoint>& endpoint, uint16_t port,
                               MonoTime now, bool can_send_again) {
  const Duration max_idle = can_send_again ? kMaxIdleTime : kFreshEnough;
  auto found = idle_.find(Key(endpoint.get(), port));
  if (found == idle_.end()) return nullptr;
  std::vector<UpstreamPtr>& connections = found->second.connections;
  while (!connections.empty()) {
    if (now - connections.back()->idle_since > max_idle) return nullptr;
    UpstreamPtr connection = std::move(connections.back());
    connections.pop_back();
    --size_;
    // Closed meanwhile, or something that nobody asked for: it is of no use.
    const Stream& stream = connection->stream;
    if (!stream.SeemsReadable() && (can_send_again || !stream.Readable())) return connection;
  }
  return nullptr;
}

void UpstreamPool::Put(const std::shared_ptr<Slot>& slot, UpstreamPtr connection, MonoTime now) {
  if (size_ >= kMaxIdle) return;
  Idle& idle = idle_[Key(connection->endpoint.get(), connection->port)];
  if (idle.connections.size() >= kMaxIdlePerPort) return;
  if (!idle.slot) {
    idle.slot = slot;
    idle.endpoint = connection->endpoint;
  }
  connection->idle_since = now;
  connection->stream.in().Shrink();
  idle.connections.push_back(std::move(connection));
  ++size_;
}

void UpstreamPool::Sweep(MonoTime now) {
  for (auto it = idle_.begin(); it != idle_.end();) {
    const Slot& slot = *it->second.slot;
    std::vector<UpstreamPtr>& connections = it->second.connections;
    auto keep = connections.end();
    if (!slot.closed() && slot.endpoint() == it->second.endpoint) {
      keep = std::find_if(connections.begin(), connections.end(), [&](const UpstreamPtr& each) {
        return now - each->idle_since < kMaxIdleTime && !each->stream.SeemsReadable();
      });
    }
    size_ -= keep - connections.begin();
    connections.erase(connections.begin(), keep);
    if (connections.empty()) {
      idle_.erase(it++);
    } else {
      ++it;
    }
  }
}

void UpstreamPool::Clear() {
  idle_.clear();
  size_ = 0;
}

}  // namespace ctr
