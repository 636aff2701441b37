#pragma once

#include <cstdint>
#include <span>

#include "agent/base/error.h"
#include "agent/base/fd.h"
#include "agent/base/ipv4.h"

namespace ctr {

// A BPF program that the kernel asks which socket a new TCP connection goes to: for an address in
// one of the ranges it is `listener`, if the address and port were added; else it is refused, even
// if a server of the host listens on 0.0.0.0. All other addresses are left alone. It works for this
// network namespace, and ends with the object or the process. Any thread.
class SkLookup {
 public:
  // Errors say which step the kernel refused (Linux 5.9, CAP_BPF and CAP_NET_ADMIN are needed).
  static StatusOr<SkLookup> Attach(std::span<const Ipv4Range> ranges, int listener);

  Status Add(uint32_t address, uint16_t port);
  void Remove(uint32_t address, uint16_t port);

 private:
  SkLookup(UniqueFd pairs, UniqueFd sockets, UniqueFd program, UniqueFd link)
      : pairs_(std::move(pairs)),
        sockets_(std::move(sockets)),
        program_(std::move(program)),
        link_(std::move(link)) {}

  UniqueFd pairs_;    // hash map of the (address, port) that are steered
  UniqueFd sockets_;  // sockmap of one, the listener
  UniqueFd program_;
  UniqueFd link_;  // attaches the program to the namespace while it is open
};

}  // namespace ctr
