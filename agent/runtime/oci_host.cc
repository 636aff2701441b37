// What the OCI spec takes from the machine that it runs on.

#include <sys/resource.h>
#include <sys/utsname.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>
#include <vector>

#include "absl/strings/match.h"
#include "agent/runtime/oci_spec.h"
#include "agent/runtime/seccomp.h"

namespace ctr {
namespace {

namespace fs = std::filesystem;

bool Exists(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

// Our own cgroup in the unified hierarchy: the line "0::/path".
fs::path OwnCgroup2() {
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    if (absl::StartsWith(line, "0::/")) return line.substr(4);
  }
  return "";
}

// Whether memory cgroups count swap, too; without it a swap limit makes the runtime fail. cgroup v2
// has the file in every group but the root, v1 (hybrid or pure) has it at the root.
bool CanLimitSwap() {
  if (Exists("/sys/fs/cgroup/memory")) {
    return Exists("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes");
  }
  if (Exists("/sys/fs/cgroup" / OwnCgroup2() / "memory.swap.max")) return true;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator("/sys/fs/cgroup", error)) {
    if (Exists(entry.path() / "memory.swap.max")) return true;
  }
  return false;
}

// They tell neighbours apart by the load of a CPU (moby's advisory GHSA-6fw5-f8r9-fgfm).
std::vector<std::string> ThermalThrottlePaths() {
  std::vector<std::string> paths;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator("/sys/devices/system/cpu", error)) {
    fs::path path = entry.path() / "thermal_throttle";
    if (Exists(path)) paths.push_back(path.string());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

// The set of that name in our own /proc/self/status: "CapPrm:\t000001ffffffffff".
uint64_t CapabilityBits(const std::string& name) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (absl::StartsWith(line, name + ":")) {
      return std::strtoull(line.c_str() + name.size() + 1, nullptr, 16);
    }
  }
  return 0;
}

std::vector<std::string> OwnCapabilities() {
  const uint64_t bits = CapabilityBits("CapPrm") & CapabilityBits("CapBnd");
  std::vector<std::string> capabilities;
  for (size_t i = 0; i < KnownCapabilities().size(); ++i) {
    if ((bits >> i & 1) != 0) capabilities.push_back(KnownCapabilities()[i]);
  }
  return capabilities;
}

}  // namespace

OciHost DetectOciHost() {
  OciHost host;
  utsname names{};
  uname(&names);
  const KernelVersion kernel = ParseKernelVersion(names.release);
  host.kernel = names.release;
  host.seccomp =
      TranslateSeccomp(DefaultSeccompProfile(), DefaultCapabilities(), HostPlatform(), kernel)
          .dump();
  host.capabilities = OwnCapabilities();
  host.recursive_read_only = kernel >= KernelVersion{5, 12};  // mount_setattr
  host.masked_paths = ThermalThrottlePaths();
  host.cgroup_v1 = !Exists("/sys/fs/cgroup/cgroup.controllers");
  host.swap_limit = CanLimitSwap();
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) host.nofile_hard = files.rlim_max;
  return host;
}

}  // namespace ctr
