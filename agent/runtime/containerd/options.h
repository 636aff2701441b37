#pragma once

#include <optional>
#include <string>
#include <vector>

#include "agent/base/ip_range.h"
#include "agent/model/image_settings.h"
#include "agent/network/egress.h"
#include "agent/runtime/containerd/containerd_config.h"

namespace ctr {

// Which containerd, and in whose name.
struct ContainerdOptions {
  std::string agent_id;
  std::string data_dir;           // absolute
  std::string run_dir;            // absolute
  std::string logger_path;        // absolute, of ctr-logger
  std::optional<IpRange> subnet;  // of instances with a way out; none: a free one is chosen
  std::vector<IpRange> allow;     // what they may reach although it is not public
  // The socket of somebody else's containerd; none: a private one below data_dir and run_dir.
  std::optional<std::string> external_socket;
  ImageSettings images = {};

  ContainerdPaths Paths() const { return ContainerdPaths(data_dir, run_dir); }
  EgressOptions ForEgress() const { return {agent_id, data_dir, run_dir, subnet, allow}; }
  std::string Socket() const { return external_socket.value_or(Paths().socket); }
};

}  // namespace ctr
