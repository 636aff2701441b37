#pragma once

#include <string>
#include <vector>

#include "cli/context.h"
#include "cli/settings.h"

namespace ctr::cli {

// Runs one command. `args` are what follows the program's name. Returns the exit status.
int Run(const std::vector<std::string>& args, const Environment& environment, const Io& io);

}  // namespace ctr::cli
