#include "agent/doctor/host_checks.h"

#include <grp.h>
#include <sys/resource.h>

#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "agent/base/project_quota.h"
#include "agent/base/read_file.h"
#include "agent/base/run_command.h"

namespace ctr {
namespace {

using Outcome = Finding::Outcome;

constexpr rlim_t kEnoughFiles = 65536;

// `version`: the option by which it tells its version, as the nth word of what it prints first; 0:
// anywhere.
Finding CheckProgram(const std::string& name, const std::string& package,
                     const std::string& version, size_t nth) {
  const std::string path = FindProgram(name);
  if (path.empty()) {
    return {name, Outcome::kMissing, "there is no program " + name,
            absl::StrCat("install it: apt-get install ", package)};
  }
  const StatusOr<std::string> output = RunCommand({path, version});
  if (!output.ok()) {
    return {name, Outcome::kMissing,
            absl::StrCat(path, " does not run: ", std::string(output.status().message())),
            absl::StrCat("install it anew: apt-get install --reinstall ", package)};
  }
  const std::vector<std::string> words =
      absl::StrSplit(output->substr(0, output->find('\n')), ' ', absl::SkipEmpty());
  const bool told = nth > 0 && nth < words.size();
  return {name, Outcome::kOk, told ? absl::StrCat(path, ", ", words[nth]) : path, ""};
}

Finding CheckNft() {
  Finding finding = CheckProgram("nft", "nftables", "--version", 1);
  if (finding.outcome == Outcome::kMissing) {
    finding.outcome = Outcome::kWarning;
    absl::StrAppend(&finding.detail, ": classes with internet = true do not start");
  }
  return finding;
}

Finding CheckGroup() {
  if (::getgrnam("ctr") != nullptr) {
    return {"group ctr", Outcome::kOk, "its members may use the agent's socket", ""};
  }
  return {"group ctr", Outcome::kWarning, "there is no group ctr: root alone may use the agent",
          "make it: groupadd --system ctr"};
}

Finding CheckOpenFiles() {
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  const std::string detail = absl::StrCat(files.rlim_max, " at most");
  if (files.rlim_max >= kEnoughFiles) return {"open files", Outcome::kOk, detail, ""};
  return {"open files", Outcome::kWarning, detail + ": that bounds connections and instances",
          "raise it for the agent: LimitNOFILE=1048576 in its unit, or ulimit -Hn"};
}

void Append(std::vector<Finding>& all, std::vector<Finding> more) {
  for (Finding& finding : more) all.push_back(std::move(finding));
}

}  // namespace

Finding JudgeContainerd(Finding program, const std::string& socket) {
  const bool is_elsewhere = absl::StartsWith(socket, "/");
  if (is_elsewhere && program.outcome == Outcome::kMissing) {
    program.outcome = Outcome::kWarning;
    absl::StrAppend(&program.detail, "; instances live in the one at ", socket);
  }
  return program;
}

std::vector<Finding> CheckPrograms() {
  return {CheckProgram("containerd", "containerd", "--version", 2),
          CheckProgram("containerd-shim-runc-v2", "containerd", "-v", 0),
          CheckProgram("runc", "runc", "--version", 2),
          CheckNft(),
          CheckGroup(),
          CheckOpenFiles()};
}

std::vector<Finding> CheckDisk(const std::string& data_dir) {
  // Where it is to be made, the parent's file system will hold it.
  std::filesystem::path folder = data_dir;
  std::error_code error;
  while (!std::filesystem::is_directory(folder, error) && folder.has_relative_path()) {
    folder = folder.parent_path();
  }
  if (CheckProjectQuotas(folder.string()).ok()) {
    return {{"disk limits", Outcome::kOk, "project quotas are on at " + folder.string(), ""}};
  }
  return {{"disk limits", Outcome::kWarning,
           absl::StrCat("the file system of ", folder.string(),
                        " has no project quotas: resources.disk does not hold, an instance that "
                        "fills the disk is stopped at [disk] min_free"),
           "ext4: tune2fs -O project,quota and the mount option prjquota; XFS: the mount option "
           "pquota"}};
}

std::vector<Finding> CheckHost(const std::string& data_dir) {
  std::vector<Finding> all = CheckPrograms();
  for (Finding& finding : all) {
    if (finding.check != "containerd") continue;
    finding = JudgeContainerd(std::move(finding), ReadFirstLine(data_dir + "/containerd-socket"));
  }
  Append(all, CheckKernel());
  Append(all, CheckNetwork());
  Append(all, CheckDisk(data_dir));
  return all;
}

}  // namespace ctr
