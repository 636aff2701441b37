#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "agent/base/error.h"
#include "agent/base/fd.h"
#include "agent/base/ipv4.h"

namespace ctr {

// A BPF program that the kernel asks which socket a new TCP connection goes to: for an address in
// one of the ranges it is `listener`, if the address and port were added; else it is refused, even
// if a server of the host listens on 0.0.0.0. All other addresses are left alone. It works for this
// network namespace until the last copy of its descriptors is closed: with the object, or later if
// an FdStore keeps them. Any thread.
class SkLookup {
 public:
  // Errors say which step the kernel refused (Linux 5.9, CAP_BPF and CAP_NET_ADMIN are needed).
  static StatusOr<SkLookup> Attach(std::span<const Ipv4Range> ranges, int listener);

  // The descriptors that another process needs to go on steering in this one's place.
  struct Kept {
    UniqueFd pairs;
    UniqueFd sockets;
    UniqueFd link;
  };
  // Goes on with what an earlier process kept, without a moment in between: with its pairs, but
  // this version's program for these ranges. INVALID_ARGUMENT if it is something else.
  static StatusOr<SkLookup> Resume(Kept kept, std::span<const Ipv4Range> ranges, int listener);
  // Puts this one's program in the place of another process's, which resumed it and gave up.
  Status Reattach() const;
  int pairs() const { return pairs_.get(); }
  int sockets() const { return sockets_.get(); }
  int link() const { return link_.get(); }

  // All (address, port) that are steered now.
  std::vector<std::pair<uint32_t, uint16_t>> List() const;
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
