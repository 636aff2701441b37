#include "agent/runtime/oci_spec.h"

#include <algorithm>
#include <cmath>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace ctr {
namespace {

using nlohmann::json;

constexpr char kDefaultPath[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
constexpr int64_t kCpuPeriodUs = 100'000;  // Docker's, and the kernel's default
constexpr int64_t kMinCpuQuotaUs = 1'000;  // the kernel refuses less

// In the dumped text no string can contain this: quotes in strings are escaped.
constexpr std::string_view kSeccompPlace = R"("seccomp":null)";

Status Refused(absl::string_view message) {
  return Error(absl::StatusCode::kFailedPrecondition, code::kStartFailed, std::string(message));
}

bool HasNul(const std::string& text) { return text.find('\0') != std::string::npos; }

StatusOr<std::vector<std::string>> Args(const OciSpecInput& input) {
  std::vector<std::string> args = input.entrypoint.value_or(input.image.entrypoint);
  if (input.command) {
    args.insert(args.end(), input.command->begin(), input.command->end());
  } else if (!input.entrypoint) {
    args.insert(args.end(), input.image.cmd.begin(), input.image.cmd.end());
  }
  if (args.empty()) {
    return Refused(
        "the image has neither ENTRYPOINT nor CMD: set `entrypoint` in the class to the program to "
        "run");
  }
  if (args.front().empty()) {
    return Refused("the program to run is empty: set `entrypoint` in the class to its path");
  }
  if (std::any_of(args.begin(), args.end(), HasNul)) {
    return Refused("an argument of the program has a NUL byte, which can't be passed: remove it");
  }
  return args;
}

// Replaces the variable of the same name in place, as Docker does, else appends it.
void SetVariable(std::vector<std::string>& env, std::string variable) {
  absl::string_view name = variable;
  name = name.substr(0, name.find('=') + 1);
  auto same = std::find_if(env.begin(), env.end(),
                           [&](const std::string& other) { return absl::StartsWith(other, name); });
  if (same == env.end()) {
    env.push_back(std::move(variable));
  } else {
    *same = std::move(variable);
  }
}

StatusOr<std::vector<std::string>> Environment(const OciSpecInput& input) {
  std::vector<std::string> env = {kDefaultPath, absl::StrCat("HOSTNAME=", input.hostname)};
  for (const std::string& variable : input.image.env) {
    // Docker drops what has no '='.
    if (absl::StrContains(variable, '=')) SetVariable(env, variable);
  }
  for (const auto& [name, value] : input.env) SetVariable(env, absl::StrCat(name, "=", value));
  auto unpassable = std::find_if(env.begin(), env.end(), HasNul);
  if (unpassable != env.end()) {
    return Refused(absl::StrCat("the variable ", unpassable->substr(0, unpassable->find('=')),
                                " has a NUL byte, which can't be passed: remove it"));
  }
  return env;
}

std::string WorkingDir(const ImageConfig& image) {
  if (absl::StartsWith(image.working_dir, "/")) return image.working_dir;
  return absl::StrCat("/", image.working_dir);
}

json Capabilities(const ProcessUser& user) {
  json capabilities = {{"bounding", DefaultCapabilities()}};
  // Another user than root has none in effect, as after execve; root's are those of the bounding
  // set. None are inheritable (CVE-2022-24769).
  if (user.uid == 0) {
    capabilities["effective"] = DefaultCapabilities();
    capabilities["permitted"] = DefaultCapabilities();
  }
  return capabilities;
}

StatusOr<json> Process(const OciSpecInput& input, const OciHost& host) {
  CTR_ASSIGN_OR_RETURN(std::vector<std::string> args, Args(input));
  CTR_ASSIGN_OR_RETURN(std::vector<std::string> env, Environment(input));
  json user = {{"uid", input.user.uid}, {"gid", input.user.gid}};
  if (!input.user.additional_gids.empty()) user["additionalGids"] = input.user.additional_gids;
  uint64_t soft = std::min<uint64_t>(input.nofile, host.nofile_hard);
  return json{
      {"terminal", false},
      {"user", std::move(user)},
      {"args", std::move(args)},
      {"env", std::move(env)},
      {"cwd", WorkingDir(input.image)},
      {"capabilities", Capabilities(input.user)},
      {"rlimits", {{{"type", "RLIMIT_NOFILE"}, {"hard", host.nofile_hard}, {"soft", soft}}}},
      {"noNewPrivileges", true},
      // Else it inherits the runtime's, which may be protected from the OOM killer.
      {"oomScoreAdj", 0}};
}

json Mount(const char* destination, const char* type, const char* source,
           std::vector<const char*> options) {
  return {{"destination", destination}, {"type", type}, {"source", source}, {"options", options}};
}

json Mounts(const OciSpecInput& input) {
  json mounts = {
      Mount("/proc", "proc", "proc", {"nosuid", "noexec", "nodev"}),
      Mount("/dev", "tmpfs", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"}),
      Mount("/dev/pts", "devpts", "devpts",
            {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}),
      Mount("/sys", "sysfs", "sysfs", {"nosuid", "noexec", "nodev", "ro"}),
      // runc makes of it what the host has: cgroup2, or the hierarchies of v1, hybrid or not.
      Mount("/sys/fs/cgroup", "cgroup", "cgroup", {"ro", "nosuid", "noexec", "nodev"}),
      Mount("/dev/mqueue", "mqueue", "mqueue", {"nosuid", "noexec", "nodev"}),
      Mount("/dev/shm", "tmpfs", "shm", {"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}),
  };
  if (!input.resolv_conf.empty()) {
    mounts.push_back(Mount("/etc/resolv.conf", "bind", input.resolv_conf.c_str(),
                           {"rbind", "rprivate", "ro", "nosuid", "noexec", "nodev"}));
  }
  return mounts;
}

json Device(int major, int minor) {
  return {{"allow", true}, {"type", "c"}, {"major", major}, {"minor", minor}, {"access", "rwm"}};
}

json Resources(const Resources& resources, const OciHost& host) {
  json devices = {{{"allow", false}, {"access", "rwm"}}};
  // zero, null, urandom, random, tty, console; runc adds ptmx, pts and making nodes.
  for (auto [major, minor] : {std::pair(1, 5), {1, 3}, {1, 9}, {1, 8}, {5, 0}, {5, 1}}) {
    devices.push_back(Device(major, minor));
  }
  json limits = {{"devices", std::move(devices)}, {"pids", {{"limit", resources.pids}}}};
  if (resources.cpus) {
    int64_t quota = std::llround(*resources.cpus * kCpuPeriodUs);
    limits["cpu"] = {{"period", kCpuPeriodUs}, {"quota", std::max(quota, kMinCpuQuotaUs)}};
  }
  if (resources.memory_bytes) {
    limits["memory"] = {{"limit", *resources.memory_bytes}};
    // Memory and swap together may be no more than the memory: no swap. Docker would allow as much
    // again in swap; a limit that means what it says is easier to plan with, and swapping
    // neighbours slow down everybody.
    if (host.swap_limit) limits["memory"]["swap"] = *resources.memory_bytes;
  }
  return limits;
}

json Linux(const OciSpecInput& input, const OciHost& host) {
  std::vector<std::string> masked = {"/proc/acpi",
                                     "/proc/asound",
                                     "/proc/interrupts",
                                     "/proc/kcore",
                                     "/proc/keys",
                                     "/proc/latency_stats",
                                     "/proc/sched_debug",
                                     "/proc/scsi",
                                     "/proc/timer_list",
                                     "/proc/timer_stats",
                                     "/sys/devices/virtual/powercap",
                                     "/sys/firmware"};
  masked.insert(masked.end(), host.masked_paths.begin(), host.masked_paths.end());
  json namespaces = json::array();
  for (const char* type : {"pid", "ipc", "uts", "mount", "network", "cgroup"}) {
    json entry = {{"type", type}};
    if (entry["type"] == "network" && !input.network_namespace.empty()) {
      entry["path"] = input.network_namespace;
    }
    namespaces.push_back(std::move(entry));
  }
  return {{"cgroupsPath", input.cgroups_path},
          {"namespaces", std::move(namespaces)},
          {"resources", Resources(input.resources, host)},
          {"seccomp", nullptr},
          {"maskedPaths", std::move(masked)},
          {"readonlyPaths",
           {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}}};
}

}  // namespace

const std::vector<std::string>& DefaultCapabilities() {
  static const auto& capabilities = *new std::vector<std::string>{
      "CAP_CHOWN",   "CAP_DAC_OVERRIDE", "CAP_FSETID",           "CAP_FOWNER",
      "CAP_MKNOD",   "CAP_NET_RAW",      "CAP_SETGID",           "CAP_SETUID",
      "CAP_SETFCAP", "CAP_SETPCAP",      "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT",
      "CAP_KILL",    "CAP_AUDIT_WRITE"};
  return capabilities;
}

StatusOr<std::string> BuildOciSpec(const OciSpecInput& input, const OciHost& host) {
  CTR_ASSIGN_OR_RETURN(json process, Process(input, host));
  json spec = {{"ociVersion", "1.0.2"},
               {"process", std::move(process)},
               {"root", {{"path", "rootfs"}, {"readonly", input.read_only}}},
               {"hostname", input.hostname},
               {"mounts", Mounts(input)},
               {"linux", Linux(input, host)}};
  if (!input.annotations.empty()) spec["annotations"] = input.annotations;
  // Text that is not UTF-8 would be replaced by the runtime's JSON parser in the same way.
  std::string text = spec.dump(-1, ' ', false, json::error_handler_t::replace);
  // The profile is the bulk of a spec and always the same: it is put in as text.
  text.replace(text.find(kSeccompPlace), kSeccompPlace.size(),
               absl::StrCat(R"("seccomp":)", host.seccomp));
  return text;
}

}  // namespace ctr
