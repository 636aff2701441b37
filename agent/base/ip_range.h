#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "agent/base/error.h"
#include "agent/base/ipv4.h"

namespace ctr {

// A network of either family, "10.1.0.0/16" or "fd00:1::/64". Address bytes in network order: the
// first four of an IPv4 network, all sixteen of an IPv6 one.
struct IpRange {
  enum class Family { kIpv4, kIpv6 } family = Family::kIpv4;
  std::array<uint8_t, 16> address = {};  // no bit is set below the prefix
  int prefix = 0;

  bool is_ipv4() const { return family == Family::kIpv4; }
  // In bytes.
  size_t address_size() const { return is_ipv4() ? 4 : 16; }
  bool Contains(const IpRange& other) const;
  bool Overlaps(const IpRange& other) const { return Contains(other) || other.Contains(*this); }
  // A single address is written without its prefix.
  std::string ToString() const;

  bool operator==(const IpRange&) const = default;
};

IpRange ToIpRange(const Ipv4Range& range);

// The nth address of the network; n is less than its size.
IpRange AddressIn(const IpRange& range, uint32_t n);

// Of `address_size` bytes, 4 or 16; what is below the prefix is cleared.
IpRange IpRangeOf(std::string_view address, int prefix);

// Reads a network or a single address. INVALID_ARGUMENT if the text has another form or bits below
// the prefix.
StatusOr<IpRange> ParseIpRange(std::string_view text);

}  // namespace ctr
