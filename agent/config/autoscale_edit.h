#pragma once

#include <map>
#include <string>
#include <string_view>

#include "agent/base/error.h"

namespace ctr {

// The class file `source` with another [autoscale], for `ctr autoscale on` and `off`: everything
// else of its text stays. `settings`: keys of [autoscale] and their values as on a command line
// (`5`, `0.7`, `30s`), over those that the file has; a target_rps takes the place of a
// target_concurrency, and the other way round. INVALID_ARGUMENT in one line if a value is
// impossible, or if the file writes [autoscale] in a way that is not understood line by line.
StatusOr<std::string> WithAutoscale(std::string_view source, bool on,
                                    const std::map<std::string, std::string>& settings);

}  // namespace ctr
