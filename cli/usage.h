#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/render.h"

// What instances use, from the agent's counters. Pure.
namespace ctr::cli {

struct Usage {
  v1::InstanceStats stats;
  std::optional<double> cpu_cores;            // 1.0: one core all the time
  std::optional<double> requests_per_second;  // that ended
};

// The rates between two samples; `before` may lack instances, or have an earlier start of one,
// whose CPU time says nothing about this one's.
std::vector<Usage> Rates(const v1::ListStatsResponse& before, const v1::ListStatsResponse& after);

// Every key is always there, null where there is nothing to say.
Json ToJson(const Usage& usage);
std::string UsageTable(const std::vector<Usage>& usages, Style style);

struct ScreenSize {
  int columns = 80;
  int rows = 24;
};

// What `ctr top` shows: a line of sums, and the table, the busiest first; cut to the screen. Lines
// end with "\n", the last one without.
std::string TopScreen(std::vector<Usage> usages, ScreenSize size, Style style);

}  // namespace ctr::cli
