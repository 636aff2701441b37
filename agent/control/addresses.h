#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_set>

namespace ctr {

// An IPv4 network, host byte order.
struct AddressRange {
  uint32_t base = 0;
  int prefix = 32;

  uint32_t size() const { return uint32_t{1} << (32 - prefix); }
};

// The next address of `range` after `last` (0: none was given yet) that is not `used`: an address
// is not given again until the range wraps. The first two and the last of a range stay free
// (network, the agent's own, broadcast). Nothing if all are used.
std::optional<uint32_t> NextAddress(AddressRange range, uint32_t last,
                                    const std::unordered_set<uint32_t>& used);

// "127.77.0.2" of a host-order address.
std::string FormatAddress(uint32_t address);

}  // namespace ctr
