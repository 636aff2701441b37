#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "agent/base/error.h"
#include "ctr/v1/agent.pb.h"

namespace ctr::cli {

// What came to `class_name` ("": to the only class) over time, for SimulateAutoscale, from the text
// of one of:
//  - JSON lines {"time":0,"arrivals":10,"service":0.05,"cpu":0.01,"memory":0}; the last two may be
//    left out, and every class is in it;
//  - the ingress's access log, summed up by the second;
//  - the events of type `traffic` that `ctr events -o jsonl`, or -o json, printed;
//  - scrapes of /metrics, one after the other.
// The first thing in it tells which. Times begin at 0. Errors name the line and what it is to be.
StatusOr<std::vector<v1::SimulateAutoscaleRequest::Row>> ParseTrace(std::string_view text,
                                                                    const std::string& class_name);

}  // namespace ctr::cli
