#include "agent/runtime/containerd/cgroup.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "agent/base/living_thread.h"
#include "agent/base/pidfd.h"
#include "agent/base/read_file.h"

namespace ctr {
namespace {

namespace fs = std::filesystem;

// How long processes may take to be gone after their SIGKILL, on a thread that starts need, too:
// callers try again.
constexpr std::chrono::milliseconds kEmptyTimeout(500);

// The number after `key` in a file of "key value" lines; 0 without such a line.
int64_t ReadKey(const std::string& path, absl::string_view key) {
  std::string text = ReadFileText(path);
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    std::pair<absl::string_view, absl::string_view> fields =
        absl::StrSplit(line, absl::MaxSplits(' ', 1));
    int64_t value = 0;
    if (fields.first == key && absl::SimpleAtoi(fields.second, &value)) return value;
  }
  return 0;
}

// The cgroup at `root` and those below it, each after its children.
std::vector<std::string> Tree(const std::string& root) {
  std::vector<std::string> folders;
  std::error_code error;
  for (fs::recursive_directory_iterator it(root, error), end; !error && it != end;
       it.increment(error)) {
    std::error_code ignored;
    if (it->is_directory(ignored)) folders.push_back(it->path());
  }
  std::reverse(folders.begin(), folders.end());
  if (fs::exists(root, error)) folders.push_back(root);
  return folders;
}

void KillAll(const Cgroups& cgroups, const std::string& path) {
  for (int pid : cgroups.Processes(path)) {
    StatusOr<Pidfd> process = Pidfd::Open(pid);
    if (process.ok() && ProcessIsInCgroup(pid, path)) process->Signal(SIGKILL).IgnoreError();
  }
}

}  // namespace

StatusOr<Cgroups> Cgroups::Detect() {
  Cgroups cgroups = FromMountinfo(ReadFileText("/proc/self/mountinfo"));
  if (cgroups.mount_points_.empty()) {
    return absl::FailedPreconditionError(
        "no cgroups: mount cgroup2 at /sys/fs/cgroup (or start the agent where they are mounted)");
  }
  return cgroups;
}

Cgroups Cgroups::FromMountinfo(const std::string& mountinfo) {
  // 36 35 0:31 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
  Cgroups cgroups;
  for (absl::string_view line : absl::StrSplit(mountinfo, '\n')) {
    std::vector<absl::string_view> halves = absl::StrSplit(line, " - ");
    if (halves.size() != 2) continue;
    std::vector<absl::string_view> mount = absl::StrSplit(halves[0], ' ');
    std::vector<absl::string_view> filesystem = absl::StrSplit(halves[1], ' ');
    if (mount.size() < 5 || filesystem.size() < 3) continue;
    std::string mount_point(mount[4]);
    if (filesystem[0] == "cgroup2") {
      cgroups.unified_mount_ = mount_point;
    } else if (filesystem[0] == "cgroup") {
      std::vector<absl::string_view> options = absl::StrSplit(filesystem[2], ',');
      const auto has = [&](absl::string_view controller) {
        return std::find(options.begin(), options.end(), controller) != options.end();
      };
      if (has("memory")) cgroups.memory_mount_ = mount_point;
      if (has("cpu")) cgroups.cpu_mount_ = mount_point;
      if (has("cpuacct")) cgroups.cpuacct_mount_ = mount_point;
      if (has("pids")) cgroups.pids_mount_ = mount_point;
    } else {
      continue;
    }
    cgroups.mount_points_.push_back(std::move(mount_point));
  }
  return cgroups;
}

int64_t Cgroups::OomKills(const std::string& path) const {
  if (!memory_mount_.empty()) {
    return ReadKey(absl::StrCat(memory_mount_, path, "/memory.oom_control"), "oom_kill");
  }
  return ReadKey(absl::StrCat(unified_mount_, path, "/memory.events"), "oom_kill");
}

std::vector<int> Cgroups::Processes(const std::string& path) const {
  std::set<int> pids;
  for (const std::string& mount_point : mount_points_) {
    for (const std::string& folder : Tree(mount_point + path)) {
      std::ifstream file(folder + "/cgroup.procs");
      for (int pid = 0; file >> pid;) pids.insert(pid);
    }
  }
  return {pids.begin(), pids.end()};
}

bool Cgroups::Exists(const std::string& path) const {
  return std::any_of(mount_points_.begin(), mount_points_.end(),
                     [&](const std::string& mount_point) {
                       return ::access((mount_point + path).c_str(), F_OK) == 0;
                     });
}

std::vector<std::string> Cgroups::Children(const std::string& path) const {
  std::set<std::string> names;
  for (const std::string& mount_point : mount_points_) {
    std::error_code error;
    for (fs::directory_iterator it(mount_point + path, error), end; !error && it != end;
         it.increment(error)) {
      std::error_code ignored;
      if (it->is_directory(ignored)) names.insert(it->path().filename());
    }
  }
  return {names.begin(), names.end()};
}

Status Cgroups::Remove(const std::string& path) const {
  auto deadline = std::chrono::steady_clock::now() + kEmptyTimeout;
  for (const std::string& mount_point : mount_points_) {
    for (const std::string& folder : Tree(mount_point + path)) {
      while (::rmdir(folder.c_str()) != 0 && errno != ENOENT) {
        int error = errno;
        if (error != EBUSY || std::chrono::steady_clock::now() > deadline) {
          return ErrnoError(error, absl::StrCat("cannot remove the cgroup ", folder));
        }
        KillAll(*this, path);
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
      }
    }
  }
  return absl::OkStatus();
}

void Cgroups::RemoveIfEmpty(const std::string& path) const {
  for (const std::string& mount_point : mount_points_) ::rmdir((mount_point + path).c_str());
}

bool ProcessIsInCgroup(int pid, const std::string& path) {
  // 4:memory:/ctr/3f/01h…
  std::string text = ReadFileText(absl::StrCat("/proc/", LivingThread(pid), "/cgroup"));
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    std::vector<absl::string_view> fields = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (fields.size() == 3 && (fields[2] == path || absl::StartsWith(fields[2], path + "/"))) {
      return true;
    }
  }
  return false;
}

}  // namespace ctr
