#pragma once

#include <vector>

#include "agent/doctor/finding.h"

namespace ctr {

// Everything of this machine that ctr needs or can use: programs, kernel, cgroups, limits, network.
// Changes nothing but what is made for a test and gone afterwards. Meant for root: what another
// user may not look at counts as missing, and says so. Takes some tens of milliseconds; blocks.
std::vector<Finding> CheckHost();

// The parts of it.
std::vector<Finding> CheckPrograms();
std::vector<Finding> CheckKernel();
std::vector<Finding> CheckNetwork();

// Whether the controllers are there that limits need, as cgroup v2's root names them, or v1's
// folders. Pure.
Finding JudgeCgroups(bool is_v2, const std::vector<std::string>& controllers);

// Chains of others that let nothing through what they do not know, out of `nft -j list chains`:
// "ip filter FORWARD". Our own tables are passed over. Pure.
std::vector<std::string> ClosedForwardChains(const std::string& chains_json);

}  // namespace ctr
