#pragma once

#include <sys/epoll.h>

#include <array>
#include <optional>
#include <span>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "agent/base/asio.h"
#include "agent/base/clock.h"
#include "agent/base/fd.h"

namespace ctr {

class PolledSocket;

// Is told, instead of a coroutine, that a socket may be ready. It may destroy the socket.
class SocketWatcher {
 public:
  virtual void OnReady() = 0;

 protected:
  ~SocketWatcher() = default;
};

// Tells the coroutines of a data loop when their sockets are ready. Each socket is registered once,
// edge-triggered, and what epoll said of it is remembered until it is used up: Asio's own sockets
// try in vain before they wait, which is a third of all system calls of a small request. Home: its
// loop, but for Stop.
class Poller {
 public:
  explicit Poller(asio::io_context& io);
  ~Poller() { Stop(); }
  Poller(const Poller&) = delete;

  const asio::any_io_executor& executor() const { return executor_; }

  // Posts to the own loop, from it: it does not wait for its sockets before it has done that.
  template <typename Token>
  auto Post(Token&& token) {
    posted_ = true;
    return asio::post(executor_, std::forward<Token>(token));
  }

  // Ends what still waits. Once nothing runs on the loop any more, and before its io_context ends.
  void Stop();

 private:
  friend class PolledSocket;

  void Add(PolledSocket* socket);
  void Remove(PolledSocket* socket);
  void Arm();
  void Turn();

  const asio::any_io_executor executor_;
  const UniqueFd epoll_;
  std::optional<asio::posix::stream_descriptor> ready_;  // of epoll_: Asio waits for all at once
  std::span<epoll_event> batch_;                         // what Turn has yet to tell
  bool posted_ = false;                                  // since Turn began
  MonoTime end_;                                         // of the last Turn
  absl::flat_hash_set<PolledSocket*> sockets_;
};

// A connected, or connecting, non-blocking socket. One coroutine may wait in each direction.
class PolledSocket {
 public:
  enum Direction { kRead, kWrite };

  // `ready`: worth trying at once; else it waits for epoll first.
  enum class First { kReady, kConnecting };
  PolledSocket(Poller& poller, UniqueFd fd, First first);
  ~PolledSocket() { Close(); }
  PolledSocket(const PolledSocket&) = delete;

  Poller& poller() { return poller_; }
  int fd() const { return fd_.get(); }

  // Whether a read or a write is worth trying, so far as is known.
  bool ready(Direction direction) const { return ready_[direction]; }
  // A read or a write gave less than was asked for: there is no more until epoll says so.
  void UsedUp(Direction direction) {
    if (direction == kWrite || !hung_up_) ready_[direction] = false;
  }
  // It would have blocked.
  void Blocked(Direction direction) { ready_[direction] = false; }

  // Returns when it may be ready, or was cancelled or closed, which cancelled() then says.
  awaitable<void> Wait(Direction direction);
  bool cancelled(Direction direction) const { return cancelled_[direction]; }

  // Once nobody waits: `watcher` is told from now on; null: nobody.
  void SetWatcher(SocketWatcher* watcher) { watcher_ = watcher; }

  // Ends a Wait in that direction.
  void Cancel(Direction direction);
  // Ends both, and the connection.
  void Close();

 private:
  friend class Poller;
  using Waiter = asio::async_result<asio::use_awaitable_t<>, void()>::handler_type;

  void Tell(uint32_t events);
  std::optional<Waiter> TakeWaiter(Direction direction);

  Poller& poller_;
  UniqueFd fd_;
  bool ready_[2];
  bool cancelled_[2] = {false, false};
  bool hung_up_ = false;  // the end may stand behind what is read
  std::optional<Waiter> waiters_[2];
  SocketWatcher* watcher_ = nullptr;
};

}  // namespace ctr
