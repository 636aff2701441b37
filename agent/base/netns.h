#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "agent/base/error.h"
#include "agent/base/fd.h"

namespace ctr {

// A socket in LISTEN state: the local address in network byte order. `any_address` is 0.0.0.0, or
// :: that also takes IPv4; `loopback` is 127.0.0.0/8; an IPv6-only listener is neither and has ipv4
// == 0.
struct ListeningSocket {
  uint16_t port = 0;
  uint32_t ipv4 = 0;  // network byte order; 0 for any and for IPv6
  bool any_address = false;
  bool loopback = false;
};

// Another network namespace, held open. Immutable; any thread may call it. Needs CAP_SYS_ADMIN.
class NetworkNamespace {
 public:
  // Where the agent reaches an instance, on the instance's own `lo` (network byte order): from
  // 169.254.77.1 to 169.254.77.2, so that an application that trusts 127.0.0.1 does not take a
  // remote client for a local one.
  static const uint32_t kAgentAddress;
  static const uint32_t kInstanceAddress;

  // The namespace of the process `pid`, which must not be reaped meanwhile (hold a pidfd, check it
  // afterwards).
  static StatusOr<NetworkNamespace> OfProcess(int pid);
  // That of the calling thread.
  static StatusOr<NetworkNamespace> Current();

  // A new one, with nothing in it but a lo that is down. It lives as long as it is held.
  static StatusOr<NetworkNamespace> Make();

  // One that another process had open. INVALID_ARGUMENT if it is something else.
  static StatusOr<NetworkNamespace> FromDescriptor(UniqueFd fd);

  // For another process, which FromDescriptor makes one of.
  int fd() const { return fd_.get(); }

  // A socket inside the namespace, close-on-exec; `type` as for socket(2). Costs two setns on the
  // calling thread (5 µs). The process ends if the thread can't come back: it would serve traffic
  // in the wrong namespace.
  StatusOr<UniqueFd> Socket(int domain, int type, int protocol) const;

  // Brings `lo` up and adds kAgentAddress and kInstanceAddress to it. Idempotent.
  Status PrepareLoopback() const;

 private:
  explicit NetworkNamespace(UniqueFd fd) : fd_(std::move(fd)) {}
  static StatusOr<NetworkNamespace> Open(const std::string& path);

  UniqueFd fd_;
};

// Lists the TCP sockets in LISTEN state of one namespace by sock_diag (13 µs a call, no packet
// sent). One thread at a time.
class ListenProbe {
 public:
  static StatusOr<ListenProbe> In(const NetworkNamespace& netns);

  StatusOr<std::vector<ListeningSocket>> List();

 private:
  explicit ListenProbe(UniqueFd fd) : fd_(std::move(fd)) {}

  UniqueFd fd_;
  uint32_t sequence_ = 0;
};

}  // namespace ctr
