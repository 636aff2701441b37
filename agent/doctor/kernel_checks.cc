#include "agent/doctor/kernel_checks.h"

#include <linux/bpf.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "agent/base/fd.h"
#include "agent/base/read_file.h"
#include "agent/base/run_command.h"
#include "agent/doctor/host_checks.h"

namespace ctr {
namespace {

namespace fs = std::filesystem;
using Outcome = Finding::Outcome;

bool Exists(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

// The newest that ctr uses is sk_lookup and close_range, both of 5.9.
Finding CheckVersion() {
  utsname names{};
  ::uname(&names);
  int major = 0;
  int minor = 0;
  std::sscanf(names.release, "%d.%d", &major, &minor);
  if (std::pair(major, minor) >= std::pair(5, 9)) {
    return {"kernel", Outcome::kOk, names.release, ""};
  }
  return {"kernel", Outcome::kMissing, absl::StrCat(names.release, " is too old"),
          "run Linux 5.9 or newer; Debian 12 has 6.1"};
}

Finding CheckNamespaces() {
  std::vector<std::string> missing;
  for (const char* name : {"net", "pid", "mnt", "ipc", "uts", "cgroup"}) {
    if (!Exists(absl::StrCat("/proc/self/ns/", name))) missing.emplace_back(name);
  }
  if (missing.empty()) return {"namespaces", Outcome::kOk, "net pid mnt ipc uts cgroup", ""};
  return {"namespaces", Outcome::kMissing,
          absl::StrCat("the kernel lacks ", absl::StrJoin(missing, " ")),
          "run a kernel with these namespaces, as every distribution's has"};
}

Finding CheckCgroups() {
  const bool is_v2 = Exists("/sys/fs/cgroup/cgroup.controllers");
  std::vector<std::string> controllers;
  if (is_v2) {
    controllers = absl::StrSplit(ReadFileText("/sys/fs/cgroup/cgroup.controllers"),
                                 absl::ByAnyChar(" \n"), absl::SkipEmpty());
  } else {
    std::error_code error;
    for (fs::directory_iterator it("/sys/fs/cgroup", error), end; !error && it != end;
         it.increment(error)) {
      controllers.push_back(it->path().filename());
    }
  }
  return JudgeCgroups(is_v2, controllers);
}

Finding CheckSeccomp() {
  if (absl::StrContains(ReadFileText("/proc/sys/kernel/seccomp/actions_avail"), "errno")) {
    return {"seccomp", Outcome::kOk, "filters are in this kernel", ""};
  }
  return {"seccomp", Outcome::kMissing, "the kernel has no seccomp filters",
          "run a kernel with CONFIG_SECCOMP_FILTER"};
}

Finding CheckAppArmor() {
  if (absl::StartsWith(ReadFileText("/sys/module/apparmor/parameters/enabled"), "Y")) {
    if (!FindProgram("apparmor_parser").empty()) return {"AppArmor", Outcome::kOk, "is on", ""};
    return {"AppArmor", Outcome::kMissing,
            "is on, but there is no apparmor_parser: instances do not start without its profile",
            "install it: apt-get install apparmor"};
  }
  return {"AppArmor", Outcome::kWarning,
          "is off or not in this kernel: capabilities, seccomp and masked paths hold without it",
          "where the kernel has it: apparmor=1 security=apparmor on its command line"};
}

Finding CheckOverlay() {
  if (HasFileSystem("overlay")) return {"overlayfs", Outcome::kOk, "is there", ""};
  return {"overlayfs", Outcome::kMissing, "the kernel does not know it",
          "load it: modprobe overlay, and put \"overlay\" into /etc/modules"};
}

// Loads the smallest program of that kind, which is gone when its descriptor is closed.
Finding CheckSkLookup() {
  // r0 = 1; exit
  const bpf_insn program[] = {
      {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 1},
      {.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0}};
  bpf_attr attributes = {};
  attributes.prog_type = BPF_PROG_TYPE_SK_LOOKUP;
  attributes.expected_attach_type = BPF_SK_LOOKUP;
  attributes.insns = reinterpret_cast<uint64_t>(program);
  attributes.insn_cnt = std::size(program);
  attributes.license = reinterpret_cast<uint64_t>("GPL");
  const UniqueFd fd(
      static_cast<int>(::syscall(SYS_bpf, BPF_PROG_LOAD, &attributes, sizeof attributes)));
  if (fd.valid()) return {"sk_lookup", Outcome::kOk, "BPF programs of that kind load", ""};
  const int error = errno;
  return {"sk_lookup", Outcome::kWarning,
          absl::StrCat("the kernel refuses it (", std::strerror(error),
                       "): each address has a listener of its own, and a host server on "
                       "0.0.0.0 may be in the way"),
          error == EPERM ? "run as root, with CAP_BPF and CAP_NET_ADMIN"
                         : "run a kernel with CONFIG_BPF_SYSCALL, 5.9 or newer"};
}

}  // namespace

bool HasFileSystem(const std::string& name) {
  for (absl::string_view line : absl::StrSplit(ReadFileText("/proc/filesystems"), '\n')) {
    if (absl::EndsWith(line, "\t" + name)) return true;
  }
  // A module that is not loaded yet is loaded before the kernel looks at the options.
  ::mount("none", "/", name.c_str(), 0, "ctr-doctor-asks");
  return errno != ENODEV && errno != EPERM;
}

Finding JudgeCgroups(bool is_v2, const std::vector<std::string>& controllers) {
  std::vector<std::string> wanted = {"cpu", "memory", "pids"};
  if (!is_v2) wanted.insert(wanted.end(), {"freezer", "devices"});
  std::vector<std::string> missing;
  for (const std::string& name : wanted) {
    if (std::find(controllers.begin(), controllers.end(), name) == controllers.end()) {
      missing.push_back(name);
    }
  }
  const std::string version = is_v2 ? "v2" : "v1";
  if (missing.empty()) {
    return {"cgroups", Outcome::kOk, absl::StrCat(version, ": ", absl::StrJoin(wanted, " ")), ""};
  }
  return {"cgroups", Outcome::kMissing,
          absl::StrCat(version, " without ", absl::StrJoin(missing, " ")),
          "mount /sys/fs/cgroup with these controllers; for memory maybe cgroup_enable=memory on "
          "the kernel's command line"};
}

std::vector<Finding> CheckKernel() {
  return {CheckVersion(),  CheckNamespaces(), CheckCgroups(), CheckSeccomp(),
          CheckAppArmor(), CheckOverlay(),    CheckSkLookup()};
}

}  // namespace ctr
