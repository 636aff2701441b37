#include "agent/runtime/containerd/disk_use.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "agent/base/disk_room.h"
#include "agent/base/fd.h"
#include "agent/base/project_quota.h"
#include "agent/base/work.h"
#include "agent/runtime/containerd/disk.h"

namespace ctr {
namespace {

constexpr size_t kMaxDepth = 200;  // each takes a descriptor while it is counted
constexpr int64_t kMaxFiles = 1'000'000;
constexpr int64_t kMaxLooks = 200'000;  // at descriptors and what is mapped
constexpr int64_t kBlock = 512;         // of st_blocks

struct CloseFolder {
  void operator()(DIR* folder) const { ::closedir(folder); }
};
using Folder = std::unique_ptr<DIR, CloseFolder>;

Folder OpenAt(int at, const char* name) {
  UniqueFd fd(::openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  DIR* folder = fd.valid() ? ::fdopendir(fd.get()) : nullptr;
  if (folder != nullptr) static_cast<void>(fd.Release());
  return Folder(folder);
}

// Adds up files, each of whose names counts for a part.
class FileSum {
 public:
  void Add(const struct stat& file) {
    const auto names =
        static_cast<int64_t>(S_ISDIR(file.st_mode) ? 1 : std::max(file.st_nlink, 1UL));
    bytes_ += file.st_blocks * kBlock / names;
    files_ += 1.0 / static_cast<double>(names);
    ++names_;
  }
  int64_t names() const { return names_; }
  DiskAmount Amount(bool whole) const {
    return {.bytes = bytes_, .files = std::llround(files_), .whole = whole};
  }

 private:
  int64_t bytes_ = 0;
  double files_ = 0;
  int64_t names_ = 0;
};

// Files without a name on overlay file systems, each once.
class UnlinkedFiles {
 public:
  // What a process holds. Its first thread may have ended, and each of the others may have
  // descriptors of its own.
  void CountThoseOf(int pid) {
    std::vector<int> counted;
    std::error_code error;
    std::filesystem::directory_iterator it(absl::StrCat("/proc/", pid, "/task"), error);
    for (const std::filesystem::directory_iterator end; !error && it != end; it.increment(error)) {
      int thread = 0;
      if (!absl::SimpleAtoi(it->path().filename().string(), &thread)) continue;
      const bool is_shared = std::any_of(counted.begin(), counted.end(), [&](int other) {
        return MayLook() && ::syscall(SYS_kcmp, thread, other, KCMP_FILES, 0, 0) == 0;
      });
      if (is_shared) continue;
      counted.push_back(thread);
      CountLinks(absl::StrCat("/proc/", thread, "/fd"));
      CountLinks(absl::StrCat("/proc/", thread, "/map_files"));
    }
  }

  DiskAmount Amount() const { return sum_.Amount(looks_ <= kMaxLooks); }

 private:
  bool MayLook() { return ++looks_ <= kMaxLooks; }

  void CountLinks(const std::string& folder) {
    std::error_code error;
    std::filesystem::directory_iterator it(folder, error);
    for (const std::filesystem::directory_iterator end; !error && it != end; it.increment(error)) {
      if (!MayLook()) return;
      const std::string path = it->path().string();
      struct stat file = {};
      struct statfs on = {};
      if (::stat(path.c_str(), &file) != 0 || file.st_nlink > 0 || !S_ISREG(file.st_mode)) continue;
      if (::statfs(path.c_str(), &on) != 0 || on.f_type != OVERLAYFS_SUPER_MAGIC) continue;
      if (seen_.insert({file.st_dev, file.st_ino}).second) sum_.Add(file);
    }
  }

  FileSum sum_;
  std::set<std::pair<dev_t, ino_t>> seen_;
  int64_t looks_ = 0;
};

// Where the snapshotter keeps the container's own files.
awaitable<StatusOr<std::string>> FolderOf(std::shared_ptr<Core> core, std::string id) {
  if (auto found = core->disk_folders.find(id); found != core->disk_folders.end()) {
    co_return found->second;
  }
  containers::GetContainerRequest get;
  get.set_id(id);
  CTR_CO_ASSIGN_OR_RETURN(containers::GetContainerResponse record,
                          co_await core->client.Call(&ContainersApi::Get, std::move(get)));
  snapshots::MountsRequest request;
  request.set_snapshotter(kSnapshotter);
  request.set_key(record.container().snapshot_key());
  CTR_CO_ASSIGN_OR_RETURN(snapshots::MountsResponse mounts,
                          co_await core->client.Call(&SnapshotsApi::Mounts, std::move(request)));
  CTR_CO_ASSIGN_OR_RETURN(std::string folder, SnapshotFolder(mounts.mounts()));
  // It may have been removed meanwhile.
  if (core->processes.contains(id)) core->disk_folders[id] = folder;
  co_return folder;
}

DiskAmount Measure(const Core& core, const std::string& id, const std::string& folder) {
  if (std::optional<ProjectUse> use = UseOfSnapshot(folder, core.options.agent_id)) {
    return {.bytes = use->bytes, .files = use->files};
  }
  DiskAmount amount = CountFiles(folder);
  const DiskAmount unlinked = CountUnlinked(core.cgroups.Processes(core.CgroupPath(id)));
  amount.bytes += unlinked.bytes;
  amount.files += unlinked.files;
  amount.whole = amount.whole && unlinked.whole;
  return amount;
}

}  // namespace

DiskAmount CountFiles(const std::string& folder) {
  FileSum sum;
  bool whole = true;
  std::vector<Folder> open;
  open.push_back(OpenAt(AT_FDCWD, folder.c_str()));
  struct stat top = {};
  if (!open.back() || ::fstat(::dirfd(open.back().get()), &top) != 0) return {};
  while (!open.empty()) {
    const int here = ::dirfd(open.back().get());
    const dirent* entry = ::readdir(open.back().get());
    if (entry == nullptr) {
      open.pop_back();
      continue;
    }
    const std::string_view name = entry->d_name;
    struct stat file = {};
    if (name == "." || name == ".." ||
        ::fstatat(here, entry->d_name, &file, AT_SYMLINK_NOFOLLOW) != 0) {
      continue;
    }
    if (sum.names() >= kMaxFiles) {
      whole = false;
      break;
    }
    sum.Add(file);
    if (!S_ISDIR(file.st_mode) || file.st_dev != top.st_dev) continue;
    if (open.size() >= kMaxDepth) {
      whole = false;
    } else if (Folder below = OpenAt(here, entry->d_name)) {
      open.push_back(std::move(below));
    }
  }
  return sum.Amount(whole);
}

DiskAmount CountUnlinked(const std::vector<int>& pids) {
  UnlinkedFiles files;
  for (const int pid : pids) files.CountThoseOf(pid);
  return files.Amount();
}

awaitable<StatusOr<DiskSpace>> SpaceOfDisk(std::shared_ptr<Core> core) {
  std::string folder = core->options.Paths().root;
  if (core->options.external_socket) {
    // Where another's containerd keeps its files is known from those of a container.
    if (core->processes.empty()) co_return absl::NotFoundError("no container runs");
    CTR_CO_ASSIGN_OR_RETURN(folder, co_await FolderOf(core, core->processes.begin()->first));
    // Its own folder may be a project: statvfs would tell what that has left.
    folder.resize(folder.rfind('/'));
  }
  co_return co_await OnWork(core->work, [folder] { return SpaceAt(folder); });
}

awaitable<std::map<std::string, DiskAmount>> MeasureContainers(std::shared_ptr<Core> core,
                                                               std::vector<std::string> ids) {
  std::map<std::string, DiskAmount> amounts;
  for (const std::string& id : ids) {
    StatusOr<std::string> folder = co_await FolderOf(core, id);
    if (!folder.ok()) continue;
    amounts[id] = co_await OnWork(
        core->work, [core, id, folder = *std::move(folder)] { return Measure(*core, id, folder); });
  }
  co_return amounts;
}

}  // namespace ctr
