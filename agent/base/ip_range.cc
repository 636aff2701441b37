#include "agent/base/ip_range.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace ctr {
namespace {

void ClearBelow(std::array<uint8_t, 16>& address, int prefix) {
  for (int bit = prefix; bit < 128; ++bit) {
    address[bit / 8] = static_cast<uint8_t>(address[bit / 8] & ~(0x80 >> bit % 8));
  }
}

}  // namespace

bool IpRange::Contains(const IpRange& other) const {
  if (family != other.family || other.prefix < prefix) return false;
  std::array<uint8_t, 16> masked = other.address;
  ClearBelow(masked, prefix);
  return masked == address;
}

std::string IpRange::ToString() const {
  char text[INET6_ADDRSTRLEN] = "";
  ::inet_ntop(is_ipv4() ? AF_INET : AF_INET6, address.data(), text, sizeof text);
  if (prefix == static_cast<int>(8 * address_size())) return text;
  return absl::StrCat(text, "/", prefix);
}

IpRange ToIpRange(const Ipv4Range& range) {
  const uint32_t base = htonl(range.base);
  return IpRangeOf({reinterpret_cast<const char*>(&base), sizeof base}, range.prefix);
}

IpRange AddressIn(const IpRange& range, uint32_t n) {
  IpRange address = range;
  address.prefix = static_cast<int>(8 * range.address_size());
  for (size_t i = address.address_size(); n != 0 && i > 0; --i, n >>= 8) {
    address.address[i - 1] = static_cast<uint8_t>(address.address[i - 1] | (n & 255));
  }
  return address;
}

IpRange IpRangeOf(std::string_view address, int prefix) {
  IpRange range;
  range.family = address.size() == 4 ? IpRange::Family::kIpv4 : IpRange::Family::kIpv6;
  range.prefix = prefix;
  std::memcpy(range.address.data(), address.data(), std::min<size_t>(address.size(), 16));
  ClearBelow(range.address, prefix);
  return range;
}

StatusOr<IpRange> ParseIpRange(std::string_view text) {
  const auto refused = [&](std::string_view why) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", std::string(text), "\" is no network or address: ", std::string(why),
                     ", as in 10.1.0.0/16, 10.1.2.3 or fd00:1::/64"));
  };
  const size_t slash = std::min(text.find('/'), text.size());
  const std::string parts(text.substr(0, slash));
  const bool is_ipv6 = parts.find(':') != std::string::npos;
  std::array<uint8_t, 16> address = {};
  if (parts.find('\0') != std::string::npos ||
      ::inet_pton(is_ipv6 ? AF_INET6 : AF_INET, parts.c_str(), address.data()) != 1) {
    return refused("write ADDRESS or ADDRESS/PREFIX");
  }
  const int longest = is_ipv6 ? 128 : 32;
  int prefix = longest;
  if (slash < text.size()) {
    const std::string digits(text.substr(slash + 1));
    if (digits.empty() || digits.size() > 3 ||
        digits.find_first_not_of("0123456789") != std::string::npos ||
        !absl::SimpleAtoi(digits, &prefix) || prefix > longest) {
      return refused(is_ipv6 ? "the prefix is 0 to 128" : "the prefix is 0 to 32");
    }
  }
  IpRange range = IpRangeOf(
      {reinterpret_cast<const char*>(address.data()), static_cast<size_t>(longest / 8)}, prefix);
  if (range.address != address) return refused("no bit is set below the prefix");
  return range;
}

}  // namespace ctr
