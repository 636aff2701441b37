#include "agent/runtime/oci_spec.h"

#include <algorithm>
#include <cmath>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "agent/runtime/etc_files.h"
#include "agent/runtime/seccomp.h"
#include "agent/runtime/variables.h"

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
  // As with Docker, one that is empty is none: so a Dockerfile takes back its base image's.
  const bool has_none = input.image.entrypoint == std::vector<std::string>{""};
  std::vector<std::string> args =
      input.entrypoint.value_or(has_none ? std::vector<std::string>() : input.image.entrypoint);
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

StatusOr<std::vector<std::string>> Environment(const OciSpecInput& input) {
  Variables env;
  env.Set(kDefaultPath);
  env.Set(absl::StrCat("HOSTNAME=", input.hostname));
  for (const std::string& variable : input.image.env) {
    // Docker drops what has no '='.
    if (absl::StrContains(variable, '=')) env.Set(variable);
  }
  for (const auto& [name, value] : input.env) env.Set(absl::StrCat(name, "=", value));
  const std::vector<std::string>& list = env.list();
  auto unpassable = std::find_if(list.begin(), list.end(), HasNul);
  if (unpassable != list.end()) {
    return Refused(absl::StrCat("the variable ", unpassable->substr(0, unpassable->find('=')),
                                " has a NUL byte, which can't be passed: remove it"));
  }
  return list;
}

std::string WorkingDir(const OciSpecInput& input) {
  const ImageConfig& image = input.image;
  if (input.workdir) return *input.workdir;
  if (absl::StartsWith(image.working_dir, "/")) return image.working_dir;
  return absl::StrCat("/", image.working_dir);
}

bool Contains(const std::vector<std::string>& list, const std::string& word) {
  return std::find(list.begin(), list.end(), word) != list.end();
}

// The bounding set. We can't give what we don't have: of the default set it is left out, and what
// was asked for by name is refused.
StatusOr<std::vector<std::string>> BoundingSet(const Security& security, const OciHost& host) {
  std::vector<std::string> capabilities;
  for (const std::string& capability : CapabilitiesOf(security, host.capabilities)) {
    if (Contains(host.capabilities, capability)) {
      capabilities.push_back(capability);
    } else if (Contains(security.cap_add, capability)) {
      return Refused(absl::StrCat("the agent itself does not have ", capability,
                                  ", which `cap_add` asks for: take it out, or start the agent "
                                  "with it"));
    }
  }
  return capabilities;
}

json Capabilities(const ProcessUser& user, const std::vector<std::string>& bounding) {
  json capabilities = {{"bounding", bounding}};
  // Another user than root has none in effect, as after execve; root's are those of the bounding
  // set. None are inheritable (CVE-2022-24769).
  if (user.uid == 0) {
    capabilities["effective"] = bounding;
    capabilities["permitted"] = bounding;
  }
  return capabilities;
}

StatusOr<std::string> AppArmorProfile(const Security& security, const OciHost& host) {
  if (security.apparmor.empty()) return host.apparmor;
  if (!host.has_apparmor && security.apparmor != "unconfined") {
    return Refused(absl::StrCat("this kernel has no AppArmor for the profile ", security.apparmor,
                                ": take `apparmor` out of the class"));
  }
  return host.has_apparmor ? security.apparmor : "";
}

// The profile's rules depend on the capabilities.
std::string Seccomp(const OciHost& host, const std::vector<std::string>& bounding) {
  if (bounding == DefaultCapabilities()) return host.seccomp;
  return TranslateSeccomp(DefaultSeccompProfile(), bounding, HostPlatform(),
                          ParseKernelVersion(host.kernel))
      .dump();
}

StatusOr<json> Process(const OciSpecInput& input, const OciHost& host,
                       const std::vector<std::string>& bounding) {
  CTR_ASSIGN_OR_RETURN(std::string apparmor, AppArmorProfile(input.security, host));
  CTR_ASSIGN_OR_RETURN(std::vector<std::string> args, Args(input));
  CTR_ASSIGN_OR_RETURN(std::vector<std::string> env, Environment(input));
  json user = {{"uid", input.user.uid}, {"gid", input.user.gid}};
  if (!input.user.additional_gids.empty()) user["additionalGids"] = input.user.additional_gids;
  uint64_t soft = std::min<uint64_t>(input.nofile, host.nofile_hard);
  json process = {
      {"terminal", false},
      {"user", std::move(user)},
      {"args", std::move(args)},
      {"env", std::move(env)},
      {"cwd", WorkingDir(input)},
      {"capabilities", Capabilities(input.user, bounding)},
      {"rlimits", {{{"type", "RLIMIT_NOFILE"}, {"hard", host.nofile_hard}, {"soft", soft}}}},
      {"noNewPrivileges", input.security.no_new_privileges},
      // Else it inherits the runtime's, which may be protected from the OOM killer.
      {"oomScoreAdj", 0}};
  if (!apparmor.empty()) process["apparmorProfile"] = std::move(apparmor);
  return process;
}

json Mount(const char* destination, const char* type, const char* source,
           std::vector<const char*> options) {
  return {{"destination", destination}, {"type", type}, {"source", source}, {"options", options}};
}

json VolumeMount(const Volume& volume, const OciHost& host) {
  if (volume.host.empty()) {
    return {{"destination", volume.path},
            {"type", "tmpfs"},
            {"source", "tmpfs"},
            {"options",
             {"nosuid", "noexec", "nodev", "mode=1777", absl::StrCat("size=", volume.size_bytes)}}};
  }
  json options = {"rbind", "rprivate", volume.read_only ? "ro" : "rw"};
  // Beside it: a runc before 1.1 knows "ro" alone, and passes over this.
  if (volume.read_only && host.recursive_read_only) options.push_back("rro");
  return {{"destination", volume.path},
          {"type", "bind"},
          {"source", volume.host},
          {"options", std::move(options)}};
}

// The part of a read-only root that can be written: a mount of the same folder, which the runtime
// makes before it makes the root's own mount read-only. No link is in the path, or it could lead
// anywhere on the host.
json ImageVolumeMount(const std::string& path) {
  return {{"destination", path},
          {"type", "bind"},
          {"source", "rootfs" + path},
          {"options", {"bind", "rprivate", "rw"}}};
}

// Whether something else is mounted there, or may not be.
bool IsTaken(const std::string& path, const std::vector<Volume>& volumes) {
  for (const char* folder : {"/proc", "/sys", "/dev"}) {
    if (IsBelow(path, folder)) return true;
  }
  return path == "/" || std::any_of(volumes.begin(), volumes.end(), [&](const Volume& volume) {
           return IsBelow(path, volume.path);
         });
}

json EtcMount(const std::string& path, const std::string& source, bool read_only) {
  return {{"destination", path},
          {"type", "bind"},
          {"source", source},
          {"options", {"bind", "rprivate", "nosuid", "noexec", "nodev", read_only ? "ro" : "rw"}}};
}

// Our files of /etc; with a way out, the nameservers are those that all instances share.
std::vector<json> EtcMounts(const OciSpecInput& input) {
  std::vector<json> mounts;
  for (const char* name : kEtcFiles) {
    const auto found = input.etc_paths.find(name);
    if (found == input.etc_paths.end()) continue;
    const std::string& path = found->second;
    if (name == kResolvConfFile && !input.resolv_conf.empty()) {
      mounts.push_back(EtcMount(path, input.resolv_conf, true));
    } else if (!input.etc_folder.empty()) {
      mounts.push_back(EtcMount(path, absl::StrCat(input.etc_folder, "/", name), input.read_only));
    }
  }
  return mounts;
}

json DefaultMounts() {
  return {
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
}

// The default ones, the image's volumes, then the class's, an outer one before what is in it, and
// at last our files of /etc. A volume takes the place of what would be there otherwise.
json Mounts(const OciSpecInput& input, const OciHost& host) {
  std::vector<Volume> volumes = input.volumes;
  std::sort(volumes.begin(), volumes.end(),
            [](const Volume& a, const Volume& b) { return a.path < b.path; });
  const auto is_volume = [&](const json& mount) {
    return std::any_of(volumes.begin(), volumes.end(),
                       [&](const Volume& volume) { return mount["destination"] == volume.path; });
  };
  json mounts = json::array();
  for (json& mount : DefaultMounts()) {
    if (!is_volume(mount)) mounts.push_back(std::move(mount));
  }
  for (const std::string& path : input.image_volumes) {
    if (input.read_only && !IsTaken(path, volumes)) mounts.push_back(ImageVolumeMount(path));
  }
  for (const Volume& volume : volumes) mounts.push_back(VolumeMount(volume, host));
  for (json& mount : EtcMounts(input)) {
    if (!is_volume(mount)) mounts.push_back(std::move(mount));
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

// As the newest Docker masks them; and what nobody needs of the host's file systems and memory, and
// the kernel answers without a break of up to 10 ms, or by making another device of the host
// (zram-control/hot_add).
json MaskedPaths(const OciHost& host) {
  json masked = {"/proc/acpi",
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
                 "/sys/firmware",
                 "/proc/fs",
                 "/proc/kpagecgroup",
                 "/proc/kpagecount",
                 "/proc/kpageflags",
                 "/proc/pagetypeinfo",
                 "/proc/slabinfo",
                 "/proc/vmallocinfo",
                 "/sys/class/zram-control",
                 "/sys/kernel/slab"};
  for (const std::string& path : host.masked_paths) masked.push_back(path);
  return masked;
}

json ReadOnlyPaths(const Security& security, const OciHost& host) {
  json paths = json::array();
  if (security.masked_paths) {
    paths = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
  }
  // runc 1.1 mounts the hierarchies of v1 into a tmpfs that it forgets to make read-only: as much
  // memory as one likes, beside every limit of a volume.
  if (host.cgroup_v1) paths.push_back("/sys/fs/cgroup");
  return paths;
}

json Linux(const OciSpecInput& input, const OciHost& host) {
  json namespaces = json::array();
  for (const char* type : {"pid", "ipc", "uts", "mount", "network", "cgroup"}) {
    json entry = {{"type", type}};
    if (entry["type"] == "network" && !input.network_namespace.empty()) {
      entry["path"] = input.network_namespace;
    }
    namespaces.push_back(std::move(entry));
  }
  json linux = {{"cgroupsPath", input.cgroups_path},
                {"namespaces", std::move(namespaces)},
                {"resources", Resources(input.resources, host)},
                // As Docker: ping and low ports need no capability in a network of one's own.
                {"sysctl",
                 {{"net.ipv4.ip_unprivileged_port_start", "0"},
                  {"net.ipv4.ping_group_range", "0 2147483647"}}}};
  if (input.security.seccomp) linux["seccomp"] = nullptr;
  if (input.security.masked_paths) linux["maskedPaths"] = MaskedPaths(host);
  linux["readonlyPaths"] = ReadOnlyPaths(input.security, host);
  return linux;
}

}  // namespace

StatusOr<std::string> BuildOciSpec(const OciSpecInput& input, const OciHost& host) {
  CTR_ASSIGN_OR_RETURN(std::vector<std::string> bounding, BoundingSet(input.security, host));
  CTR_ASSIGN_OR_RETURN(json process, Process(input, host, bounding));
  json spec = {{"ociVersion", "1.0.2"},
               {"process", std::move(process)},
               {"root", {{"path", "rootfs"}, {"readonly", input.read_only}}},
               {"hostname", input.hostname},
               {"mounts", Mounts(input, host)},
               {"linux", Linux(input, host)}};
  if (!input.annotations.empty()) spec["annotations"] = input.annotations;
  // Text that is not UTF-8 would be replaced by the runtime's JSON parser in the same way.
  std::string text = spec.dump(-1, ' ', false, json::error_handler_t::replace);
  if (!input.security.seccomp) return text;
  // The profile is the bulk of a spec and nearly always the same: it is put in as text.
  text.replace(text.find(kSeccompPlace), kSeccompPlace.size(),
               absl::StrCat(R"("seccomp":)", Seccomp(host, bounding)));
  return text;
}

ContainerMounts MountsOf(const OciSpecInput& input, const OciHost& host) {
  ContainerMounts mounts;
  const json own = DefaultMounts();
  for (const json& mount : Mounts(input, host)) {
    const bool is_own = std::find(own.begin(), own.end(), mount) != own.end();
    (is_own ? mounts.own : mounts.wanted).push_back(mount["destination"]);
  }
  if (input.security.masked_paths) mounts.covered = MaskedPaths(host);
  for (const json& path : ReadOnlyPaths(input.security, host)) mounts.covered.push_back(path);
  return mounts;
}

}  // namespace ctr
