#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "agent/base/asio.h"
#include "agent/base/error.h"
#include "agent/base/fd.h"
#include "agent/proxy/session.h"

namespace ctr {

// A listening TCP socket. Never with SO_REUSEPORT: another process of the same user could then take
// half of the connections unseen. One loop accepts for all, and hands over.
class Listener {
 public:
  // `address` is "127.0.0.1:8080" or "[::1]:8080"; port 0 takes a free one. IN_USE if another
  // server has it, with a message that says what to do; steered ones don't reach here.
  static StatusOr<std::shared_ptr<Listener>> Open(const std::string& address,
                                                  bool trust_ctr_headers);
  // One that steering leads connections to. `address` in host byte order.
  static StatusOr<std::shared_ptr<Listener>> OpenSteered(uint32_t address, uint16_t port);
  // The same with a socket of an earlier process, and the connections that wait on it.
  // INVALID_ARGUMENT if it does not listen there; port 0 is any.
  static StatusOr<std::shared_ptr<Listener>> Resume(UniqueFd fd, const std::string& address,
                                                    bool trust_ctr_headers);
  static StatusOr<std::shared_ptr<Listener>> ResumeSteered(UniqueFd fd, uint32_t address,
                                                           uint16_t port);

  int fd() const { return fd_.get(); }
  ListenerKind kind() const { return kind_; }
  // "127.0.0.1:8080", with the port that it got.
  const std::string& address() const { return address_; }

  // Any thread: refuses connections from now on, and gives the address back at once. Whoever
  // accepts on it stops.
  void Close() { ::shutdown(fd_.get(), SHUT_RDWR); }

  // On the loop that accepts: AcceptOn ends, and connections wait for whoever has the socket, too.
  void StopAccepting() { stop_.emit(asio::cancellation_type::terminal); }
  asio::cancellation_slot stop_slot() { return stop_.slot(); }

 private:
  Listener(UniqueFd fd, ListenerKind kind, std::string address)
      : fd_(std::move(fd)), kind_(kind), address_(std::move(address)) {}
  static StatusOr<std::shared_ptr<Listener>> Bind(const sockaddr* address, socklen_t size,
                                                  ListenerKind kind);
  static StatusOr<std::shared_ptr<Listener>> Resume(UniqueFd fd, const sockaddr* address,
                                                    ListenerKind kind);

  const UniqueFd fd_;
  const ListenerKind kind_;
  const std::string address_;
  asio::cancellation_signal stop_;  // used on the loop that accepts
};

// Takes a connection over, or says why not: it is then closed.
using ConnectionSink = std::function<std::optional<std::string_view>(Accepted)>;

// Accepts on `listener` until it is closed or told to stop; each connection goes to `sink`,
// close-on-exec, non-blocking and with its addresses. Where descriptors run out it waits for some
// to be closed.
awaitable<void> AcceptOn(std::shared_ptr<Listener> listener, ConnectionSink sink);

}  // namespace ctr
