#pragma once

#include <vector>

#include "agent/base/error.h"
#include "agent/base/ip_range.h"
#include "agent/base/netns.h"
#include "agent/network/host.h"

namespace ctr {

// Tries, from a network namespace with an instance's interface, what an instance must not do:
// connect to a listener at each of the host's addresses, and to the metadata address of clouds
// unless it is `allowed`. FAILED_PRECONDITION if something was reached, or if none of the host's
// addresses refused: then the rules do not work. Takes some milliseconds; seconds if nobody
// answers. Blocks.
Status TestRules(const NetworkNamespace& netns, const HostNetwork& host,
                 const std::vector<IpRange>& allowed);

// Tries, in two network namespaces that are made for it and gone afterwards, whether the kernel has
// what an instance's interface needs. Blocks.
Status TestLinks();

}  // namespace ctr
