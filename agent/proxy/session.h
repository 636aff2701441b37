#pragma once

#include <memory>
#include <string>

#include "agent/proxy/connection_limits.h"
#include "agent/proxy/exchange.h"
#include "agent/proxy/loop_context.h"
#include "agent/proxy/stream.h"

namespace ctr {

// Whether a listener's clients may choose by Ctr-* fields, and what chooses there at all.
enum class ListenerKind {
  kSteered,    // the addresses of instances and classes, loopback all
  kTrusted,    // names, and Ctr-* fields
  kUntrusted,  // names alone
};

// A connection just accepted.
struct Accepted {
  UniqueFd fd;  // non-blocking, close-on-exec
  ListenerKind kind = ListenerKind::kUntrusted;
  uint32_t local_address = 0;  // host byte order; 0 of IPv6
  uint16_t local_port = 0;
  std::string peer;  // its address, as text
  bool loopback = false;
  ClientShare share;
};

// One client's connection: reads its requests, one after the other, and has each served. Lives as
// long as its coroutine. Home: its data loop.
class Session : public std::enable_shared_from_this<Session> {
 public:
  Session(LoopContext& loop, Accepted accepted);
  ~Session();
  Session(const Session&) = delete;

  // Once.
  void Start();

  // Ends it if its deadline has passed, or its client went away in the middle of a request. Called
  // now and then: that costs a request nothing, where a timer and a second read would.
  void Sweep(MonoTime now);
  // Ends it unless it is serving a request, or has sent a part of one, or bytes move on it: for a
  // drain. A client that has not sent anything yet is given a while to.
  void CloseIfIdle();
  void Abort() { cancel_.emit(asio::cancellation_type::terminal); }

 private:
  awaitable<void> Run();
  awaitable<StatusOr<size_t>> ReadHead();
  awaitable<After> Serve(size_t head_size);
  awaitable<void> PassThrough();
  StatusOr<Route> FindConnectionRoute();
  awaitable<After> Refuse(Status error);
  awaitable<void> Linger();
  StatusOr<Route> FindRoute(const RequestHead& head);
  Request TakeRequest(const RequestHead& head, size_t head_size);

  LoopContext& loop_;
  const std::shared_ptr<Stream> stream_;
  const ListenerKind kind_;
  const uint32_t local_address_;
  const uint16_t local_port_;
  const std::string peer_;
  const ClientShare share_;
  const MonoTime begin_;

  Served* served_now_ = nullptr;  // while serving
  bool served_ = false;           // at least one request
  bool begun_ = false;            // a part of a head is there
  bool late_ = false;             // and the rest did not come in time
  MonoTime deadline_;             // while not serving
  asio::cancellation_signal cancel_;
};

}  // namespace ctr
