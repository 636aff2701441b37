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

// As recv(MSG_PEEK) of one byte: 1, 0 at the end, -1 with errno.
ssize_t Peek(int fd) {
  char byte;
  return ::recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
}

}  // namespace

Stream::Stream(const asio::any_io_executor& executor, UniqueFd fd, int family) : socket_(executor) {
  socket_.assign(family == AF_INET6 ? asio::ip::tcp::v6() : asio::ip::tcp::v4(), fd.get());
  (void)fd.Release();
}

awaitable<size_t> Stream::Read() {
  std::span<char> room = in_.Prepare();
  ErrorCode error;
  reading_ = true;
  const size_t bytes = co_await socket_.async_read_some(asio::buffer(room.data(), room.size()),
                                                        asio::redirect_error(use_awaitable, error));
  reading_ = false;
  ended_ = error == asio::error::eof;
  in_.Commit(bytes);
  received_ += bytes;
  co_return bytes;
}

awaitable<bool> Stream::Write(WriteBatch batch) {
  std::span<iovec> parts = batch.parts();
  while (SendSome(fd(), parts, sent_)) {
    if (parts.empty()) co_return true;
    ErrorCode error;
    blocked_ = true;
    co_await socket_.async_wait(asio::ip::tcp::socket::wait_write,
                                asio::redirect_error(use_awaitable, error));
    blocked_ = false;
    if (error) break;
  }
  co_return false;
}

void Stream::WriteNow(std::string_view bytes) {
  WriteBatch batch;
  batch.Add(bytes);
  std::span<iovec> parts = batch.parts();
  SendSome(fd(), parts, sent_);
}

void Stream::Cancel() {
  ErrorCode ignored;
  socket_.cancel(ignored);
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

bool Stream::Readable() { return Peek(fd()) >= 0 || errno != EAGAIN; }

void Stream::CloseWithReset() {
  ErrorCode ignored;
  socket_.set_option(asio::socket_base::linger(true, 0), ignored);
  socket_.close(ignored);
}

void Stream::ShutdownWrite() {
  ErrorCode ignored;
  socket_.shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
}

}  // namespace ctr
