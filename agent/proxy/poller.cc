#include "agent/proxy/poller.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <system_error>
#include <utility>

namespace ctr {
namespace {

constexpr size_t kBatch = 256;
// A loop that had something to do so short a time ago soon has again.
constexpr std::chrono::microseconds kPatience(100);
// How long what Asio has to do may wait for that.
constexpr std::chrono::microseconds kRound(400);

UniqueFd OpenEpoll() {
  UniqueFd fd(::epoll_create1(EPOLL_CLOEXEC));
  if (!fd.valid()) throw std::system_error(errno, std::system_category(), "epoll_create1");
  return fd;
}

}  // namespace

Poller::Poller(asio::io_context& io) : executor_(io.get_executor()), epoll_(OpenEpoll()) {
  // Asio closes what it waits on.
  const int duplicate = ::fcntl(epoll_.get(), F_DUPFD_CLOEXEC, 3);
  if (duplicate < 0) throw std::system_error(errno, std::system_category(), "fcntl");
  ready_.emplace(io, duplicate);
  Arm();
}

void Poller::Stop() {
  ready_.reset();
  // What waits owns its socket, and goes with it.
  for (bool any = true; std::exchange(any, false);) {
    for (PolledSocket* socket : sockets_) {
      if (!socket->waiters_[0] && !socket->waiters_[1]) continue;
      auto reader = socket->TakeWaiter(PolledSocket::kRead);
      auto writer = socket->TakeWaiter(PolledSocket::kWrite);
      any = true;
      break;  // before the two go, and sockets_ changes
    }
  }
}

void Poller::Add(PolledSocket* socket) {
  epoll_event event = {};
  event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
  event.data.ptr = socket;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, socket->fd(), &event) != 0) {
    throw std::system_error(errno, std::system_category(), "epoll_ctl");
  }
  sockets_.insert(socket);
}

void Poller::Remove(PolledSocket* socket) {
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, socket->fd(), nullptr);
  sockets_.erase(socket);
  for (epoll_event& event : batch_) {
    if (event.data.ptr == socket) event.data.ptr = nullptr;
  }
}

void Poller::Arm() {
  ready_->async_wait(asio::posix::stream_descriptor::wait_read, [this](ErrorCode error) {
    if (!error) Turn();
  });
}

// To go round by Asio costs three system calls, to wait here for what comes next one. So a busy
// loop stays here for a while, unless it posted something to itself.
void Poller::Turn() {
  std::array<epoll_event, kBatch> events;
  const MonoTime begin = std::chrono::steady_clock::now();
  const bool busy = begin - end_ < kPatience;
  posted_ = false;
  int count = 0;
  do {
    const bool patient = busy && !posted_;
    const timespec wait = {.tv_sec = 0,
                           .tv_nsec = patient ? std::chrono::nanoseconds(kPatience).count() : 0};
    count = ::epoll_pwait2(epoll_.get(), events.data(), kBatch, &wait, nullptr);
    batch_ = {events.data(), static_cast<size_t>(std::max(count, 0))};
    while (!batch_.empty()) {
      const epoll_event event = batch_.front();
      batch_ = batch_.subspan(1);
      if (event.data.ptr != nullptr) static_cast<PolledSocket*>(event.data.ptr)->Tell(event.events);
    }
    end_ = std::chrono::steady_clock::now();
  } while (count > 0 && end_ - begin < kRound);
  Arm();
}

PolledSocket::PolledSocket(Poller& poller, UniqueFd fd, First first)
    : poller_(poller), fd_(std::move(fd)), ready_{first == First::kReady, first == First::kReady} {
  poller_.Add(this);
}

awaitable<void> PolledSocket::Wait(Direction direction) {
  cancelled_[direction] = false;
  return asio::async_initiate<const asio::use_awaitable_t<>, void()>(
      [this, direction](auto handler) {
        auto slot = asio::get_associated_cancellation_slot(handler);
        if (slot.is_connected()) {
          slot.assign([this, direction](asio::cancellation_type) { Cancel(direction); });
        }
        waiters_[direction].emplace(std::move(handler));
      },
      use_awaitable);
}

void PolledSocket::Tell(uint32_t events) {
  if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) hung_up_ = true;
  const uint32_t always = EPOLLHUP | EPOLLERR;
  const bool readable = events & (EPOLLIN | EPOLLRDHUP | always);
  const bool writable = events & (EPOLLOUT | always);
  if (readable) ready_[kRead] = true;
  if (writable) ready_[kWrite] = true;
  if (watcher_ != nullptr) return watcher_->OnReady();
  std::optional<Waiter> reader(readable ? TakeWaiter(kRead) : std::nullopt);
  std::optional<Waiter> writer(writable ? TakeWaiter(kWrite) : std::nullopt);
  // From here on the socket may go.
  if (reader && writer) {
    poller_.Post(*std::move(writer));
  } else if (writer) {
    (*writer)();
  }
  if (reader) (*reader)();
}

std::optional<PolledSocket::Waiter> PolledSocket::TakeWaiter(Direction direction) {
  std::optional<Waiter> waiter(std::move(waiters_[direction]));
  waiters_[direction].reset();
  return waiter;
}

void PolledSocket::Cancel(Direction direction) {
  if (!waiters_[direction]) return;
  cancelled_[direction] = true;
  poller_.Post(*TakeWaiter(direction));
}

void PolledSocket::Close() {
  if (!fd_.valid()) return;
  poller_.Remove(this);
  fd_.Reset();
  ready_[kRead] = ready_[kWrite] = false;
  Cancel(kRead);
  Cancel(kWrite);
}

}  // namespace ctr
