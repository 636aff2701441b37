#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace ctr {

// How one registry is spoken to, where it is not as usual.
struct RegistrySettings {
  std::string host;                  // as references write it: "docker.io", "registry.example:5000"
  std::vector<std::string> mirrors;  // "https://mirror.example"; asked first, in this order
  bool plain_http = false;
  std::string ca_file;  // PEM, trusted beside the system's; absolute; "": none

  bool operator==(const RegistrySettings&) const = default;
};

// [images] and [[registry]] of the agent's file.
struct ImageSettings {
  std::optional<int64_t> max_size_bytes;  // of all that images take on the disk; none: no limit
  // docker's config.json with the logins; "": ~/.docker/config.json of the agent's user.
  std::string docker_config;
  std::vector<RegistrySettings> registries;

  // Those of `host`; null if it has none of its own.
  const RegistrySettings* Find(const std::string& host) const {
    for (const RegistrySettings& registry : registries) {
      if (registry.host == host) return &registry;
    }
    return nullptr;
  }
};

}  // namespace ctr
