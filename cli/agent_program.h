#pragma once

#include <string>

#include "agent/base/error.h"

namespace ctr::cli {

// Runs ctr-agent, which is installed beside ctr or is in PATH, with `flag`, and gives what it
// prints. NOT_FOUND if there is none. Blocks.
StatusOr<std::string> RunAgentProgram(const std::string& flag);

}  // namespace ctr::cli
