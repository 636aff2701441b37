#pragma once

#include <string>
#include <vector>

#include "agent/doctor/finding.h"

namespace ctr {

// Everything of this machine that ctr needs or can use: programs, kernel, cgroups, limits, network.
// Changes nothing but what is made for a test and gone afterwards. Meant for root: what another
// user may not look at counts as missing, and says so. Takes some tens of milliseconds; blocks.
// `data_dir` is the agent's, which may not be there yet.
std::vector<Finding> CheckHost(const std::string& data_dir);

// The parts of it.
std::vector<Finding> CheckPrograms();
std::vector<Finding> CheckKernel();
std::vector<Finding> CheckNetwork();
std::vector<Finding> CheckDisk(const std::string& data_dir);

// Whether the controllers are there that limits need, as cgroup v2's root names them, or v1's
// folders. Pure.
Finding JudgeCgroups(bool is_v2, const std::vector<std::string>& controllers);

// A missing program is a warning where instances live in somebody else's containerd: `socket`, as
// DATA/containerd-socket says. Pure.
Finding JudgeContainerd(Finding program, const std::string& socket);

}  // namespace ctr
