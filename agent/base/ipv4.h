#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "agent/base/error.h"

namespace ctr {

// Addresses are in host byte order.

// "127.77.0.2".
std::string FormatIpv4(uint32_t address);

// An IPv4 network, "127.77.0.0/16".
struct Ipv4Range {
  uint32_t base = 0;
  int prefix = 32;

  uint32_t mask() const { return prefix == 0 ? 0 : ~uint32_t{0} << (32 - prefix); }
  bool Contains(uint32_t address) const { return (address & mask()) == base; }
  bool Overlaps(const Ipv4Range& other) const {
    return Contains(other.base) || other.Contains(base);
  }
  std::string ToString() const;
};

// Reads "127.77.0.0/16". INVALID_ARGUMENT if the text has another form or bits below the prefix.
StatusOr<Ipv4Range> ParseIpv4Range(std::string_view text);

}  // namespace ctr
