#pragma once

#include "agent/base/error.h"
#include "agent/base/fd.h"
#include "agent/base/ipv4.h"

namespace ctr {

// Claims a range of addresses for this process, within its network namespace: an abstract Unix
// socket of the range's name, which the kernel takes back however the process ends. IN_USE if
// another agent has claimed the range, or one that overlaps it.
StatusOr<UniqueFd> LockRange(const Ipv4Range& range);

}  // namespace ctr
