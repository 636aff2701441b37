#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "agent/base/error.h"
#include "agent/base/time.h"

namespace ctr {

// The path of a program: in PATH, or in the folders of the system's own, which a service's or a
// user's PATH may lack. "" if there is none.
std::string FindProgram(std::string_view name);

// Runs a command to its end with `input` on its standard input, and gives its standard output.
// ABORTED with the first line of its standard error if it fails; DEADLINE_EXCEEDED, after SIGKILL,
// if it takes longer than `limit`. Blocks.
StatusOr<std::string> RunCommand(const std::vector<std::string>& argv, std::string_view input = "",
                                 Duration limit = std::chrono::seconds(10));

}  // namespace ctr
