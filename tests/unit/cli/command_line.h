#pragma once

#include <sstream>
#include <string>
#include <vector>

#include "cli/run.h"
#include "tests/unit/cli/fake_agent.h"

namespace ctr::cli {

// What a command left behind.
struct Outcome {
  int exit_status = 0;
  std::string out;
  std::string err;
};

// Runs `ctr` with these arguments and environment, off a terminal.
inline Outcome RunCtr(const std::vector<std::string>& args, const Environment& environment,
                      int input = -1) {
  std::ostringstream out;
  std::ostringstream err;
  Io io{.out = out, .err = err, .input = input};
  int exit_status = Run(args, environment, io);
  return {exit_status, out.str(), err.str()};
}

// The same against `agent`.
inline Outcome RunCtr(const FakeAgent& agent, const std::vector<std::string>& args,
                      Environment environment = {}, int input = -1) {
  environment["CTR_HOST"] = agent.host();
  return RunCtr(args, environment, input);
}

}  // namespace ctr::cli
