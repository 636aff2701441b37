#pragma once

#include <cstdint>
#include <optional>
#include <unordered_set>

#include "agent/base/ipv4.h"

namespace ctr {

// The next address of `range` after `last` (0: none was given yet) that is not `used`: an address
// is not given again until the range wraps. The first two and the last of a range stay free
// (network, the agent's own, broadcast). Nothing if all are used.
std::optional<uint32_t> NextAddress(Ipv4Range range, uint32_t last,
                                    const std::unordered_set<uint32_t>& used);

}  // namespace ctr
