#include "agent/base/ipv4.h"

#include <arpa/inet.h>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace ctr {

std::string FormatIpv4(uint32_t address) {
  return absl::StrCat(address >> 24, ".", address >> 16 & 255, ".", address >> 8 & 255, ".",
                      address & 255);
}

std::string Ipv4Range::ToString() const { return absl::StrCat(FormatIpv4(base), "/", prefix); }

StatusOr<Ipv4Range> ParseIpv4Range(std::string_view text) {
  const auto refused = [&](std::string_view why) {
    return absl::InvalidArgumentError(absl::StrCat(
        "\"", std::string(text), "\" is no range of IPv4 addresses: ", std::string(why),
        ", as in 127.77.0.0/16"));
  };
  const size_t slash = text.find('/');
  if (slash == std::string_view::npos) return refused("write ADDRESS/PREFIX");
  in_addr address;
  const std::string parts(text.substr(0, slash));
  if (parts.find('\0') != std::string::npos || ::inet_pton(AF_INET, parts.c_str(), &address) != 1) {
    return refused("the address has four parts");
  }
  Ipv4Range range;
  std::string prefix(text.substr(slash + 1));
  if (prefix.empty() || prefix.size() > 2 || !absl::SimpleAtoi(prefix, &range.prefix) ||
      range.prefix < 0 || range.prefix > 32) {
    return refused("the prefix is 0 to 32");
  }
  range.base = ntohl(address.s_addr);
  if ((range.base & ~range.mask()) != 0) return refused("no bit is set below the prefix");
  return range;
}

}  // namespace ctr
