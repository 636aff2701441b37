#pragma once

#include <string>

#include "agent/base/error.h"

namespace ctr {

// Where a private containerd keeps its things: what lasts below the agent's data directory, what a
// reboot may take below its run directory.
struct ContainerdPaths {
  explicit ContainerdPaths(const std::string& data_dir, const std::string& run_dir);

  std::string data;  // DATA/containerd, with everything that follows up to log_file
  std::string root;
  std::string config_file;
  std::string pid_file;
  std::string log_file;
  std::string run;  // RUN/containerd, with everything that follows
  std::string state;
  std::string socket;
  std::string runc_root;
};

// FAILED_PRECONDITION if a Unix socket can't have this path because it is too long.
Status CheckSocketPath(const std::string& path);

// The text of config.toml: only the plugins that we use, so that it starts fast and touches nothing
// outside `paths`.
std::string ContainerdConfig(const ContainerdPaths& paths);

}  // namespace ctr
