#pragma once

#include <string>
#include <string_view>

#include "agent/base/error.h"
#include "agent/tar/pack.h"

namespace ctr::tar {

// How a copy inside a container ended, as the text that its process leaves behind.
std::string OutcomeText(const StatusOr<Totals>& outcome);
// INTERNAL with what there is, if the process left something else.
StatusOr<Totals> ParseOutcome(std::string_view text);

}  // namespace ctr::tar
