#pragma once

#include <vector>

#include "agent/base/error.h"
#include "agent/base/ip_range.h"
#include "agent/network/link.h"

namespace ctr {

// Tries, from a network namespace that is made for it and gone afterwards, what an instance must
// not do: connect to a listener at each of the host's addresses, and to the metadata address of
// clouds. `link` is the interface that the namespace gets; one of that name is removed first.
// FAILED_PRECONDITION if something was reached, or if nothing refused: then the rules do not work.
// Takes some milliseconds; seconds if nobody answers. Blocks.
Status TestRules(const LinkSpec& link, const std::vector<IpRange>& host_addresses);

// Tries, in two network namespaces that are made for it and gone afterwards, whether the kernel has
// what an instance's interface needs. Blocks.
Status TestLinks();

}  // namespace ctr
