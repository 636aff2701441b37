#include "agent/control/addresses.h"

namespace ctr {

std::optional<uint32_t> NextAddress(Ipv4Range range, uint32_t last,
                                    const std::unordered_set<uint32_t>& used) {
  const uint32_t first = range.base + 2;
  const uint32_t count = ~range.mask() + 1 - 3;
  uint32_t offset = last >= first && last - first < count ? last - first + 1 : 0;
  for (uint32_t i = 0; i < count; ++i) {
    uint32_t address = first + (offset + i) % count;
    if (!used.contains(address)) return address;
  }
  return std::nullopt;
}

}  // namespace ctr
