#include "agent/runtime/apparmor.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "agent/base/fd.h"
#include "agent/base/spawn.h"

namespace ctr {
namespace {

namespace fs = std::filesystem;

// The body of Docker's docker-default (moby/profiles, apparmor/template.go; Apache License 2.0),
// with AF_VSOCK refused, too: a system call filter can't see the family in 32-bit socketcall().
constexpr char kRules[] = R"(
  network,
  deny network alg,
  deny network vsock,
  capability,
  file,
  umount,
  # The agent, containerd and runc may send signals to an instance's processes, and these to each other.
  signal (receive) peer=unconfined,
  signal (receive) peer=runc,
  signal (send,receive) peer=ctr-default,

  deny @{PROC}/* w,   # every file directly in /proc
  # What is not in /proc/<number>/** or /proc/sys/**
  deny @{PROC}/{[^1-9/],[^1-9/][^0-9/],[^1-9s/][^0-9y/][^0-9s/],[^1-9/][^0-9/][^0-9/][^0-9/]*}/** w,
  deny @{PROC}/sys/[^k]** w,
  deny @{PROC}/sys/kernel/{?,??,[^s][^h][^m]**} w,  # all but shm*
  deny @{PROC}/sysrq-trigger rwklx,
  deny @{PROC}/kcore rwklx,

  deny mount,

  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,

  # Processes of an instance may trace each other.
  ptrace (trace,tracedby,read,readby) peer=ctr-default,
}
)";

bool IsEnabled(const std::string& sys) {
  std::ifstream file(sys + "/module/apparmor/parameters/enabled");
  char enabled = 'N';
  file >> enabled;
  return enabled == 'Y';
}

// Loaded earlier, and in force.
bool IsLoaded(const std::string& sys) {
  std::ifstream file(sys + "/kernel/security/apparmor/profiles");
  for (std::string line; std::getline(file, line);) {
    if (absl::StartsWith(line, absl::StrCat(kAppArmorProfile, " (enforce"))) return true;
  }
  return false;
}

AppArmorParts PartsIn(const std::string& etc) {
  const fs::path folder = fs::path(etc) / "apparmor.d";
  const auto has = [&](const char* name) {
    std::error_code error;
    return fs::exists(folder / name, error);
  };
  return {
      .abi = has("abi/3.0"), .tunables = has("tunables/global"), .base = has("abstractions/base")};
}

// The text in memory, as a file to read.
UniqueFd FileOf(const std::string& text) {
  UniqueFd file(memfd_create("apparmor", MFD_CLOEXEC));
  const bool whole =
      file.valid() &&
      write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()) &&
      lseek(file.get(), 0, SEEK_SET) == 0;
  return whole ? std::move(file) : UniqueFd();
}

// "" if it was loaded, else what was in the way.
std::string Load(const std::string& text) {
  UniqueFd file = FileOf(text);
  if (!file.valid()) return "there is no memory for its text";
  const char* path = std::getenv("PATH");
  StatusOr<int> pid =
      Spawn({.argv = {"apparmor_parser", "-Kr", "/dev/stdin"},
             .environment = {absl::StrCat("PATH=", path ? path : "/usr/sbin:/usr/bin")},
             .input_fd = file.get()});
  if (!pid.ok()) return "apparmor_parser can't be started: install the package apparmor";
  int status = 0;
  while (waitpid(*pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return "";
  return absl::StrCat("apparmor_parser failed (wait status ", status, ")");
}

}  // namespace

std::string AppArmorProfileText(const AppArmorParts& parts) {
  return absl::StrCat(parts.abi ? "abi <abi/3.0>,\n" : "",
                      parts.tunables ? "#include <tunables/global>\n" : "@{PROC}=/proc/\n",
                      "\nprofile ", kAppArmorProfile,
                      " flags=(attach_disconnected,mediate_deleted) {\n",
                      parts.base ? "  #include <abstractions/base>\n" : "", kRules);
}

AppArmor LoadAppArmor(const std::string& sys, const std::string& etc) {
  AppArmor apparmor;
  apparmor.enabled = IsEnabled(sys);
  if (!apparmor.enabled) return apparmor;
  const std::string problem = Load(AppArmorProfileText(PartsIn(etc)));
  if (problem.empty() || IsLoaded(sys)) apparmor.profile = kAppArmorProfile;
  if (!problem.empty()) {
    apparmor.warning = absl::StrCat(
        "the AppArmor profile ", kAppArmorProfile, " can't be loaded, ",
        apparmor.profile.empty() ? "so instances run without one: " : "and an earlier one holds: ",
        problem);
  }
  return apparmor;
}

}  // namespace ctr
