// What the OCI spec takes from the machine that it runs on.

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>
#include <vector>

#include "absl/strings/match.h"
#include "agent/base/read_file.h"
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
fs::path OwnCgroup2(const fs::path& root) {
  std::ifstream file(root / "proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    if (absl::StartsWith(line, "0::/")) return line.substr(4);
  }
  return "";
}

// A cgroup has memory's files once its parent hands memory down, and without systemd nobody has
// asked for that before the first container: we ask as runc will, with a cgroup that it will make.
bool NewCgroupLimitsSwap(const fs::path& cgroups) {
  std::ofstream(cgroups / "cgroup.subtree_control") << "+memory" << std::flush;
  const fs::path ours = cgroups / "ctr";
  const bool made = ::mkdir(ours.c_str(), 0755) == 0;
  const bool has = Exists(ours / "memory.swap.max");
  if (made) ::rmdir(ours.c_str());
  return has;
}

// Whether memory cgroups count swap, too; without it a swap limit makes the runtime fail. cgroup v2
// has the file in every group but the root, v1 (hybrid or pure) has it at the root.
bool CanLimitSwap(const fs::path& root) {
  const fs::path cgroups = root / "sys/fs/cgroup";
  if (Exists(cgroups / "memory")) return Exists(cgroups / "memory/memory.memsw.limit_in_bytes");
  if (Exists(cgroups / OwnCgroup2(root) / "memory.swap.max")) return true;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(cgroups, error)) {
    if (Exists(entry.path() / "memory.swap.max")) return true;
  }
  return NewCgroupLimitsSwap(cgroups);
}

// Below a line of heads there is one for each swap device or file.
bool HasSwap(const fs::path& root) {
  const std::string text = ReadFileText(root / "proc/swaps");
  return std::count(text.begin(), text.end(), '\n') > 1;
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

OciHost DetectOciHost(const std::string& root_path) {
  const fs::path root = root_path;
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
  host.cgroup_v1 = !Exists(root / "sys/fs/cgroup/cgroup.controllers");
  host.swap_limit = CanLimitSwap(root);
  if (!host.swap_limit && HasSwap(root)) {
    host.warnings.emplace_back(
        "resources.memory does not hold for swap: the kernel can't limit an instance's, and there "
        "is some; start Linux with swapaccount=1, or turn swap off (swapoff -a)");
  }
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) host.nofile_hard = files.rlim_max;
  return host;
}

}  // namespace ctr
