#include "agent/proxy/stream.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

namespace ctr {
namespace {

// Sends what the socket takes now, takes it off `parts` and adds it to `total`. False if the peer
// is gone.
bool SendSome(int fd, std::span<iovec>& parts, uint64_t& total) {
  while (!parts.empty()) {
    msghdr message = {};
    message.msg_iov = parts.data();
    message.msg_iovlen = parts.size();
    const ssize_t sent = ::sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) {
      if (errno == EINTR) continue;
      return errno == EAGAIN;
    }
    auto left = static_cast<size_t>(sent);
    total += left;
    while (!parts.empty() && left >= parts.front().iov_len) {
      left -= parts.front().iov_len;
      parts = parts.subspan(1);
    }
    if (left > 0) {
      parts.front().iov_base = static_cast<char*>(parts.front().iov_base) + left;
      parts.front().iov_len -= left;
    }
  }
  return true;
}

constexpr int kReadsInARow = 16;

// As recv(MSG_PEEK) of one byte: 1, 0 at the end, -1 with errno.
ssize_t Peek(int fd) {
  char byte;
  return ::recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
}

}  // namespace

awaitable<size_t> Stream::Read() {
  constexpr PolledSocket::Direction kRead = PolledSocket::kRead;
  ended_ = false;
  reading_ = true;
  if (socket_.ready(kRead) && ++in_a_row_ > kReadsInARow) co_await GiveWay();
  ssize_t count = -1;
  while (fd() >= 0) {
    if (socket_.ready(kRead)) {
      const std::span<char> room = in_.Prepare();
      count = ::recv(fd(), room.data(), room.size(), 0);
      if (count >= 0 && static_cast<size_t>(count) < room.size()) socket_.UsedUp(kRead);
      if (count >= 0) break;
      if (errno == EINTR) continue;
      if (errno != EAGAIN) break;
      socket_.Blocked(kRead);
    }
    in_a_row_ = 0;
    co_await socket_.Wait(kRead);
    if (socket_.cancelled(kRead)) break;
  }
  reading_ = false;
  ended_ = count == 0;
  if (count <= 0) co_return 0;
  in_.Commit(static_cast<size_t>(count));
  received_ += static_cast<uint64_t>(count);
  co_return static_cast<size_t>(count);
}

// Others on the loop have their turn.
awaitable<void> Stream::GiveWay() {
  in_a_row_ = 0;
  co_await socket_.poller().Post(use_awaitable);
}

Stream::Written Stream::WriteNow(WriteBatch& batch) {
  std::span<iovec> parts = batch.parts();
  if (!SendSome(fd(), parts, sent_)) return Written::kGone;
  if (parts.empty()) return Written::kAll;
  batch.SetSent(static_cast<size_t>(batch.parts().size() - parts.size()));
  return Written::kMore;
}

awaitable<bool> Stream::Write(WriteBatch batch) {
  std::span<iovec> parts = batch.parts();
  while (SendSome(fd(), parts, sent_)) {
    if (parts.empty()) co_return true;
    socket_.Blocked(PolledSocket::kWrite);
    blocked_ = true;
    co_await socket_.Wait(PolledSocket::kWrite);
    blocked_ = false;
    if (socket_.cancelled(PolledSocket::kWrite)) break;
  }
  co_return false;
}

void Stream::Cancel() {
  socket_.Cancel(PolledSocket::kRead);
  socket_.Cancel(PolledSocket::kWrite);
}

Stream::Peer Stream::LookAtPeer() {
  tcp_info info = {};
  socklen_t size = sizeof info;
  if (::getsockopt(fd(), IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return Peer::kGone;
  switch (info.tcpi_state) {
    case TCP_CLOSE_WAIT:
    case TCP_LAST_ACK:
      return Peer::kClosing;
    case TCP_CLOSE:
      return Peer::kGone;
    default:
      return Peer::kOpen;
  }
}

bool Stream::Readable() const { return Peek(fd()) >= 0 || errno != EAGAIN; }

void Stream::CloseWithReset() {
  const linger now = {.l_onoff = 1, .l_linger = 0};
  ::setsockopt(fd(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
  Close();
}

void Stream::ShutdownWrite() { ::shutdown(fd(), SHUT_WR); }

}  // namespace ctr
