#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/error.h"

namespace ctr {

// A command on the host that tells somebody of a step in an instance's life.
struct HookCall {
  std::vector<std::string> command;        // looked up in PATH
  std::map<std::string, std::string> env;  // besides the agent's PATH, HOME and LANG
};

// Runs it to its end. OK if it exits with 0; else how it ended, and the last line of its output.
// Cancelling it kills the command.
using HookFunction = std::function<awaitable<Status>(HookCall)>;

// By a process in a session of its own, with its output read and but for its end dropped. After 30
// seconds, or with more than 1 MiB of output, it is killed with all its group. On the control loop,
// which it does not block; the clock outlives it.
awaitable<Status> RunHook(Clock* clock, asio::any_io_executor work, HookCall call);

}  // namespace ctr
