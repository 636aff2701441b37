#include "agent/model/isolation.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "agent/model/class_config.h"

namespace ctr {
namespace {

constexpr char kPrefix[] = "CAP_";

bool Contains(const std::vector<std::string>& list, const std::string& word) {
  return std::find(list.begin(), list.end(), word) != list.end();
}

// "NET_RAW", as people write it.
std::string ShortName(const std::string& capability) {
  return absl::StartsWith(capability, kPrefix) ? capability.substr(sizeof(kPrefix) - 1)
                                               : capability;
}

// Those that are not there by default.
std::vector<std::string> Added(const Security& security) {
  std::vector<std::string> added;
  const std::vector<std::string> all = CapabilitiesOf(security, KnownCapabilities());
  for (const std::string& capability : all) {
    if (!Contains(DefaultCapabilities(), capability)) added.push_back(ShortName(capability));
  }
  return added;
}

}  // namespace

bool IsBelow(const std::string& path, const std::string& folder) {
  return path == folder || absl::StartsWith(path, folder + "/");
}

std::string WhyNoVolume(const std::string& path) {
  if (path == "/") return "it would hide the image";
  if (IsBelow(path, "/proc") || IsBelow(path, "/sys")) return "the kernel's own files are there";
  if (path == "/dev") return "the instance's own devices are there";
  // What the runtime makes, and masks paths with.
  for (const char* name : {"null", "zero", "full", "random", "urandom", "tty", "console", "ptmx",
                           "pts", "fd", "stdin", "stdout", "stderr"}) {
    if (IsBelow(path, absl::StrCat("/dev/", name))) return "the instance's own devices are there";
  }
  return "";
}

const std::vector<std::string>& KnownCapabilities() {
  // linux/capability.h
  static const auto& capabilities = *new std::vector<std::string>{"CAP_CHOWN",
                                                                  "CAP_DAC_OVERRIDE",
                                                                  "CAP_DAC_READ_SEARCH",
                                                                  "CAP_FOWNER",
                                                                  "CAP_FSETID",
                                                                  "CAP_KILL",
                                                                  "CAP_SETGID",
                                                                  "CAP_SETUID",
                                                                  "CAP_SETPCAP",
                                                                  "CAP_LINUX_IMMUTABLE",
                                                                  "CAP_NET_BIND_SERVICE",
                                                                  "CAP_NET_BROADCAST",
                                                                  "CAP_NET_ADMIN",
                                                                  "CAP_NET_RAW",
                                                                  "CAP_IPC_LOCK",
                                                                  "CAP_IPC_OWNER",
                                                                  "CAP_SYS_MODULE",
                                                                  "CAP_SYS_RAWIO",
                                                                  "CAP_SYS_CHROOT",
                                                                  "CAP_SYS_PTRACE",
                                                                  "CAP_SYS_PACCT",
                                                                  "CAP_SYS_ADMIN",
                                                                  "CAP_SYS_BOOT",
                                                                  "CAP_SYS_NICE",
                                                                  "CAP_SYS_RESOURCE",
                                                                  "CAP_SYS_TIME",
                                                                  "CAP_SYS_TTY_CONFIG",
                                                                  "CAP_MKNOD",
                                                                  "CAP_LEASE",
                                                                  "CAP_AUDIT_WRITE",
                                                                  "CAP_AUDIT_CONTROL",
                                                                  "CAP_SETFCAP",
                                                                  "CAP_MAC_OVERRIDE",
                                                                  "CAP_MAC_ADMIN",
                                                                  "CAP_SYSLOG",
                                                                  "CAP_WAKE_ALARM",
                                                                  "CAP_BLOCK_SUSPEND",
                                                                  "CAP_AUDIT_READ",
                                                                  "CAP_PERFMON",
                                                                  "CAP_BPF",
                                                                  "CAP_CHECKPOINT_RESTORE"};
  return capabilities;
}

const std::vector<std::string>& DefaultCapabilities() {
  static const auto& capabilities = *new std::vector<std::string>{
      "CAP_CHOWN",  "CAP_DAC_OVERRIDE", "CAP_FOWNER",  "CAP_FSETID",           "CAP_KILL",
      "CAP_SETGID", "CAP_SETUID",       "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT",
      "CAP_SETFCAP"};
  return capabilities;
}

StatusOr<std::string> ParseCapability(std::string_view text) {
  std::string name = absl::AsciiStrToUpper(std::string(text));
  if (name == kAllCapabilities) return name;
  if (!absl::StartsWith(name, kPrefix)) name = kPrefix + name;
  if (Contains(KnownCapabilities(), name)) return name;
  return absl::InvalidArgumentError(absl::StrCat(
      "\"", std::string(text), "\" is no capability; write it like \"NET_RAW\", or \"ALL\""));
}

std::vector<std::string> CapabilitiesOf(const Security& security,
                                        const std::vector<std::string>& available) {
  const bool add_all = Contains(security.cap_add, kAllCapabilities);
  const bool drop_all = Contains(security.cap_drop, kAllCapabilities);
  std::vector<std::string> capabilities;
  for (const std::string& capability : KnownCapabilities()) {
    const bool added = Contains(security.cap_add, capability);
    const bool dropped = Contains(security.cap_drop, capability);
    bool has = added || (!drop_all && !dropped && Contains(DefaultCapabilities(), capability));
    if (add_all) has = !dropped && Contains(available, capability);
    if (has) capabilities.push_back(capability);
  }
  return capabilities;
}

std::vector<std::string> Loosened(const ClassConfig& config) {
  const Security& security = config.security;
  std::vector<std::string> loosened;
  if (Contains(security.cap_add, kAllCapabilities)) {
    loosened.push_back("it may have every capability (cap_add)");
  } else if (std::vector<std::string> added = Added(security); !added.empty()) {
    loosened.push_back(
        absl::StrCat("it may have more capabilities (cap_add): ", absl::StrJoin(added, ", ")));
  }
  if (!security.seccomp) loosened.push_back("no system call is filtered (seccomp)");
  if (!security.no_new_privileges) {
    loosened.push_back("setuid programs raise privileges (no_new_privileges)");
  }
  if (!security.masked_paths) loosened.push_back("/proc and /sys are not masked (systempaths)");
  if (security.apparmor == "unconfined") {
    loosened.push_back("no AppArmor profile holds (apparmor)");
  } else if (!security.apparmor.empty()) {
    loosened.push_back(absl::StrCat("another AppArmor profile: ", security.apparmor));
  }
  if (config.dial == Dial::kLoopback) {
    loosened.push_back("what listens on its 127.0.0.1 alone is reached from outside, too (dial)");
  }
  for (const Volume& volume : config.volumes) {
    if (volume.host.empty()) continue;
    loosened.push_back(absl::StrCat(volume.read_only ? "it reads" : "it writes", " the host's ",
                                    volume.host, " (volume)"));
  }
  return loosened;
}

}  // namespace ctr
