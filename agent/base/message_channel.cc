#include "agent/base/message_channel.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>
#include <exception>

#include "absl/strings/str_cat.h"
#include "agent/base/unix_socket.h"

namespace ctr {
namespace {

constexpr int kBacklog = 16;
constexpr Duration kPause = std::chrono::milliseconds(1);

// 0, or errno.
int TrySend(int fd, const Message& message) {
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxMessageFds * sizeof(int))] = {};
  iovec part = {const_cast<char*>(message.text.data()), message.text.size()};
  msghdr header = {};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (!message.fds.empty()) {
    header.msg_control = control;
    header.msg_controllen = CMSG_SPACE(message.fds.size() * sizeof(int));
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(message.fds.size() * sizeof(int));
    for (size_t i = 0; i < message.fds.size(); ++i) {
      const int number = message.fds[i].get();
      std::memcpy(CMSG_DATA(rights) + i * sizeof(int), &number, sizeof(int));
    }
  }
  return ::sendmsg(fd, &header, MSG_NOSIGNAL) < 0 ? errno : 0;
}

// 0 with a message, or errno; EPIPE once the other end is gone.
int TryReceive(int fd, Message& message) {
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxMessageFds * sizeof(int))] = {};
  message.text.resize(kMaxMessageBytes);
  iovec part = {message.text.data(), message.text.size()};
  msghdr header = {};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  const ssize_t size = ::recvmsg(fd, &header, MSG_CMSG_CLOEXEC);
  if (size < 0) return errno == ECONNRESET ? EPIPE : errno;
  message.text.resize(static_cast<size_t>(size));
  for (cmsghdr* rights = CMSG_FIRSTHDR(&header); rights != nullptr;
       rights = CMSG_NXTHDR(&header, rights)) {
    if (rights->cmsg_level != SOL_SOCKET || rights->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (rights->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int number = -1;
      std::memcpy(&number, CMSG_DATA(rights) + i * sizeof(int), sizeof(int));
      message.fds.emplace_back(number);
    }
  }
  if (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) return EMSGSIZE;
  return size == 0 ? EPIPE : 0;  // nobody sends an empty one
}

}  // namespace

StatusOr<UniqueFd> ListenForMessages(const std::string& path) {
  CTR_ASSIGN_OR_RETURN(UniqueFd fd, BindUnixSocket(path, SOCK_SEQPACKET, 0177));
  if (::listen(fd.get(), kBacklog) != 0) {
    return ErrnoError(errno, absl::StrCat("cannot listen on ", path));
  }
  return fd;
}

StatusOr<UniqueFd> ConnectForMessages(const std::string& path) {
  CTR_ASSIGN_OR_RETURN(const sockaddr_un address, UnixAddress(path));
  UniqueFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return ErrnoError(errno, "socket");
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) {
    return fd;
  }
  if (errno == ENOENT || errno == ECONNREFUSED) {
    return absl::NotFoundError(absl::StrCat("nobody listens on ", path));
  }
  return ErrnoError(errno, absl::StrCat("cannot connect to ", path));
}

Status SendMessage(int fd, const Message& message) {
  const int error = TrySend(fd, message);
  if (error == 0) return absl::OkStatus();
  if (error == EPIPE) return absl::UnavailableError("the other end is gone");
  return ErrnoError(error, "cannot send");
}

StatusOr<Message> ReceiveMessage(int fd, Duration patience) {
  pollfd ready = {fd, POLLIN, 0};
  const auto milliseconds = std::chrono::ceil<std::chrono::milliseconds>(patience).count();
  if (::poll(&ready, 1, static_cast<int>(milliseconds)) == 0) {
    return absl::DeadlineExceededError("no answer came");
  }
  Message message;
  const int error = TryReceive(fd, message);
  if (error == 0) return message;
  if (error == EPIPE) return absl::UnavailableError("the other end is gone");
  return ErrnoError(error, "cannot receive");
}

MessageChannel::MessageChannel(asio::any_io_executor executor, UniqueFd socket)
    : socket_(std::move(executor)) {
  ::fcntl(socket.get(), F_SETFL, O_NONBLOCK);
  socket_.assign(socket.Release());
}

void MessageChannel::Send(Message message) {
  waiting_.push_back(std::move(message));
  if (std::exchange(writing_, true)) return;
  asio::co_spawn(socket_.get_executor(), Write(),
                 [self = shared_from_this()](std::exception_ptr) { self->writing_ = false; });
}

awaitable<void> MessageChannel::Write() {
  asio::steady_timer pause(socket_.get_executor());
  while (!waiting_.empty() && socket_.is_open()) {
    const int error = TrySend(socket_.native_handle(), waiting_.front());
    if (error == EAGAIN) {
      co_await socket_.async_wait(asio::posix::stream_descriptor::wait_write, use_awaitable);
      continue;
    }
    // So many descriptors are on their way already, or there is no memory for them.
    if (error == ETOOMANYREFS || error == ENOBUFS || error == ENOMEM) {
      pause.expires_after(kPause);
      co_await pause.async_wait(use_awaitable);
      continue;
    }
    if (error == EPIPE || error == ECONNRESET) break;
    waiting_.pop_front();
  }
  waiting_.clear();
  writing_ = false;
}

awaitable<std::optional<Message>> MessageChannel::Read() {
  while (socket_.is_open()) {
    Message message;
    const int error = TryReceive(socket_.native_handle(), message);
    if (error == 0) co_return message;
    if (error != EAGAIN && error != EINTR) break;
    ErrorCode failed;
    co_await socket_.async_wait(asio::posix::stream_descriptor::wait_read,
                                asio::redirect_error(use_awaitable, failed));
    if (failed) break;
  }
  co_return std::nullopt;
}

awaitable<bool> MessageChannel::Flush(Duration patience) {
  asio::steady_timer pause(socket_.get_executor());
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (writing_ && socket_.is_open()) {
    if (std::chrono::steady_clock::now() >= deadline) co_return false;
    pause.expires_after(kPause);
    co_await pause.async_wait(use_awaitable);
  }
  co_return true;
}

void MessageChannel::Close() {
  ErrorCode ignored;
  socket_.close(ignored);
}

}  // namespace ctr
