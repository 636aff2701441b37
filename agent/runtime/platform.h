#pragma once

#include <string>

namespace ctr {

// What images and profiles call this machine.
struct Platform {
  std::string architecture;          // as OCI and Go name it: "amd64", "arm64"
  std::string variant;               // "v7" of arm; else ""
  std::string seccomp_architecture;  // "SCMP_ARCH_X86_64"; "" if it has none known to us
};

const Platform& HostPlatform();

}  // namespace ctr
