#include "agent/runtime/apparmor.h"

#include <filesystem>
#include <fstream>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "agent/base/read_file.h"
#include "agent/base/run_command.h"

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

bool IsOn(const std::string& sys) {
  return absl::StartsWith(ReadFirstLine(sys + "/module/apparmor/parameters/enabled"), "Y");
}

// Where the kernel says what is loaded; without it neither we nor runc can give a profile.
std::string FolderIn(const std::string& sys) { return sys + "/kernel/security/apparmor"; }

bool HasFolder(const std::string& sys) {
  std::error_code error;
  return fs::exists(FolderIn(sys), error);
}

// Loaded earlier, and in force.
bool IsLoaded(const std::string& sys) {
  std::ifstream file(FolderIn(sys) + "/profiles");
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

// "" if the kernel has taken the profile, else what was in the way.
std::string Load(const AppArmorPlaces& places) {
  const Status loaded =
      RunCommand({places.parser, "-Kr", "/dev/stdin"}, AppArmorProfileText(PartsIn(places.etc)))
          .status();
  if (loaded.ok()) return "";
  if (absl::IsNotFound(loaded)) return "there is no apparmor_parser: install the package apparmor";
  return std::string(loaded.message());
}

}  // namespace

std::string AppArmorProfileText(const AppArmorParts& parts) {
  return absl::StrCat(parts.abi ? "abi <abi/3.0>,\n" : "",
                      parts.tunables ? "#include <tunables/global>\n" : "@{PROC}=/proc/\n",
                      "\nprofile ", kAppArmorProfile,
                      " flags=(attach_disconnected,mediate_deleted) {\n",
                      parts.base ? "  #include <abstractions/base>\n" : "", kRules);
}

AppArmor LoadAppArmor(const AppArmorPlaces& places) {
  AppArmor apparmor;
  if (!IsOn(places.sys)) return apparmor;
  if (!HasFolder(places.sys)) {
    apparmor.warning = absl::StrCat("the kernel has AppArmor, but ", FolderIn(places.sys),
                                    " is not there: instances run without a profile");
    return apparmor;
  }
  apparmor.enabled = true;
  apparmor.profile = kAppArmorProfile;
  const std::string problem = Load(places);
  if (problem.empty()) return apparmor;
  apparmor.warning = absl::StrCat(
      "the AppArmor profile ", kAppArmorProfile, " can't be loaded, ",
      IsLoaded(places.sys) ? "and an earlier one holds: " : "so no instance starts under it: ",
      problem);
  return apparmor;
}

Status HoldAppArmor(const AppArmorPlaces& places) {
  if (!IsOn(places.sys) || !HasFolder(places.sys) || IsLoaded(places.sys)) return absl::OkStatus();
  const std::string problem = Load(places);
  if (problem.empty()) return absl::OkStatus();
  return Error(
      absl::StatusCode::kFailedPrecondition, code::kStartFailed,
      absl::StrCat("the AppArmor profile ", kAppArmorProfile, " can't be loaded: ", problem,
                   "; or set apparmor = \"unconfined\" under [security] in the class"));
}

}  // namespace ctr
