#pragma once

#include <string>
#include <vector>

#include "agent/base/error.h"

namespace ctr {

struct SpawnOptions {
  std::vector<std::string> argv = {};         // argv[0] is looked up in PATH
  std::vector<std::string> environment = {};  // "K=V"; the whole environment
  std::string output_path = {};      // stdout and stderr are appended here; "" for /dev/null
  int output_fd = -1;                // or go there, if it is given
  int error_fd = -1;                 // stderr alone goes there, if it is given
  int input_fd = -1;                 // stdin, if it is given; else /dev/null
  std::vector<int> passed_fds = {};  // become 3, 4, ...
  bool keeps_oom_score = false;      // as hard to kill as we are; else like any process
};

// The one way that the agent starts a process: posix_spawn, in a session of its own, and every
// descriptor above 2 closed but those that are passed, so that no listener leaks into what outlives
// us. Descriptors stay the caller's. Returns the pid, which the caller reaps.
StatusOr<int> Spawn(const SpawnOptions& options);

}  // namespace ctr
