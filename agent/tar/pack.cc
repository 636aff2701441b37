#include "agent/tar/pack.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <memory>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "agent/tar/entry.h"
#include "agent/tar/writer.h"

namespace ctr::tar {
namespace {

// A directory inside a directory holds one descriptor each.
constexpr int kMaxDepth = 400;

// Where the kernel makes the files up: nobody who copies what is above means them.
bool IsMadeUp(int fd) {
  struct statfs filesystem = {};
  if (::fstatfs(fd, &filesystem) != 0) return false;
  switch (static_cast<unsigned long>(filesystem.f_type)) {
    case PROC_SUPER_MAGIC:
    case SYSFS_MAGIC:
    case CGROUP_SUPER_MAGIC:
    case CGROUP2_SUPER_MAGIC:
    case DEVPTS_SUPER_MAGIC:
    case 0x19800202:  // mqueue, which <linux/magic.h> leaves out
      return true;
    default:
      return false;
  }
}

class Packer {
 public:
  Packer(const OwnDescriptors& own, ByteSink* sink)
      : own_(own), writer_(sink), piece_(kPieceBytes) {}

  // `file` is open with O_PATH; `path` is its name in the archive.
  Status Add(const UniqueFd& file, const std::string& path, dev_t above, int depth);
  Status Finish() { return writer_.Finish(); }
  const Totals& totals() const { return totals_; }

 private:
  Status AddFile(const UniqueFd& file, const struct stat& status, Entry entry);
  Status AddSymlink(const UniqueFd& file, Entry entry);
  Status AddDirectory(const UniqueFd& file, const struct stat& status, Entry entry, dev_t above,
                      int depth);
  StatusOr<std::vector<std::string>> NamesIn(const UniqueFd& directory, const std::string& path);

  const OwnDescriptors& own_;
  Writer writer_;
  std::vector<char> piece_;
  absl::flat_hash_map<std::pair<dev_t, ino_t>, std::string> linked_;  // files with several names
  Totals totals_;
};

Status Packer::Add(const UniqueFd& file, const std::string& path, dev_t above, int depth) {
  struct stat status = {};
  if (::fstat(file.get(), &status) != 0) {
    return ErrnoError(errno, absl::StrCat("cannot read ", Shown(path)));
  }
  Entry entry;
  entry.path = path;
  entry.mode = status.st_mode & 07777;
  entry.uid = status.st_uid;
  entry.gid = status.st_gid;
  entry.mtime = status.st_mtim;
  if (S_ISREG(status.st_mode)) {
    CTR_RETURN_IF_ERROR(AddFile(file, status, std::move(entry)));
  } else if (S_ISLNK(status.st_mode)) {
    CTR_RETURN_IF_ERROR(AddSymlink(file, std::move(entry)));
  } else if (S_ISDIR(status.st_mode)) {
    CTR_RETURN_IF_ERROR(AddDirectory(file, status, std::move(entry), above, depth));
  } else {
    if (totals_.left_out++ == 0) totals_.first_left_out = Shown(path);
    return absl::OkStatus();
  }
  ++totals_.entries;
  return absl::OkStatus();
}

Status Packer::AddFile(const UniqueFd& file, const struct stat& status, Entry entry) {
  if (status.st_nlink > 1) {
    auto [known, added] = linked_.try_emplace({status.st_dev, status.st_ino}, entry.path);
    if (!added) {
      entry.type = EntryType::kHardLink;
      entry.link = known->second;
      return writer_.Begin(entry);
    }
  }
  UniqueFd content = own_.Reopen(file.get(), O_RDONLY | O_NOATIME);
  if (!content.valid() && errno == EPERM) content = own_.Reopen(file.get(), O_RDONLY);
  if (!content.valid()) return ErrnoError(errno, absl::StrCat("cannot read ", Shown(entry.path)));
  entry.size_bytes = status.st_size;
  CTR_RETURN_IF_ERROR(writer_.Begin(entry));
  for (int64_t left = entry.size_bytes; left > 0;) {
    const auto wanted = static_cast<size_t>(std::min<int64_t>(left, kPieceBytes));
    const ssize_t count = ::read(content.get(), piece_.data(), wanted);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return ErrnoError(errno, absl::StrCat("cannot read ", Shown(entry.path)));
    if (count == 0) {
      return absl::AbortedError(
          absl::StrCat(Shown(entry.path), " became shorter while it was read; try again"));
    }
    CTR_RETURN_IF_ERROR(writer_.Add({piece_.data(), static_cast<size_t>(count)}));
    left -= count;
    totals_.bytes += count;
  }
  return absl::OkStatus();
}

Status Packer::AddSymlink(const UniqueFd& file, Entry entry) {
  std::array<char, PATH_MAX> text;
  const ssize_t size = ::readlinkat(file.get(), "", text.data(), text.size());
  if (size < 0) return ErrnoError(errno, absl::StrCat("cannot read the link ", Shown(entry.path)));
  entry.type = EntryType::kSymlink;
  entry.link.assign(text.data(), static_cast<size_t>(size));
  return writer_.Begin(entry);
}

StatusOr<std::vector<std::string>> Packer::NamesIn(const UniqueFd& directory,
                                                   const std::string& path) {
  UniqueFd readable = own_.Reopen(directory.get(), O_RDONLY | O_DIRECTORY);
  if (!readable.valid()) return ErrnoError(errno, absl::StrCat("cannot list ", Shown(path)));
  std::unique_ptr<DIR, int (*)(DIR*)> stream(::fdopendir(readable.get()), ::closedir);
  if (!stream) return ErrnoError(errno, absl::StrCat("cannot list ", Shown(path)));
  (void)readable.Release();
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = ::readdir(stream.get())) {
    std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(std::move(name));
  }
  if (errno != 0) return ErrnoError(errno, absl::StrCat("cannot list ", Shown(path)));
  std::sort(names.begin(), names.end());
  return names;
}

Status Packer::AddDirectory(const UniqueFd& file, const struct stat& status, Entry entry,
                            dev_t above, int depth) {
  if (depth > kMaxDepth) {
    return absl::FailedPreconditionError(
        absl::StrCat(Shown(entry.path), " is nested deeper than ", kMaxDepth, " directories"));
  }
  entry.type = EntryType::kDirectory;
  CTR_RETURN_IF_ERROR(writer_.Begin(entry));
  if (depth > 0 && status.st_dev != above && IsMadeUp(file.get())) return absl::OkStatus();
  CTR_ASSIGN_OR_RETURN(std::vector<std::string> names, NamesIn(file, entry.path));
  for (const std::string& name : names) {
    UniqueFd child = OpenBelow(file.get(), name, O_PATH | O_NOFOLLOW);
    if (!child.valid() && errno == ENOENT) continue;  // gone since
    std::string path = absl::StrCat(entry.path, "/", name);
    if (!child.valid()) return ErrnoError(errno, absl::StrCat("cannot read ", Shown(path)));
    CTR_RETURN_IF_ERROR(Add(child, path, status.st_dev, depth + 1));
  }
  return absl::OkStatus();
}

}  // namespace

StatusOr<Totals> Pack(const PackOptions& options, const OwnDescriptors& own, ByteSink* sink) {
  const SplitPath split = Split(options.path);
  uint64_t flags = O_PATH;
  if (split.wants_directory) {
    flags |= O_DIRECTORY;
  } else if (!options.follow_link) {
    flags |= O_NOFOLLOW;
  }
  UniqueFd file = OpenPath(options.path, flags);
  if (!file.valid()) return ErrnoError(errno, absl::StrCat("cannot read ", Shown(options.path)));
  struct stat status = {};
  if (::fstat(file.get(), &status) != 0) {
    return ErrnoError(errno, absl::StrCat("cannot read ", Shown(options.path)));
  }
  if (!S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode) && !S_ISLNK(status.st_mode)) {
    return absl::FailedPreconditionError(absl::StrCat(
        Shown(options.path), " is a device, a socket or a FIFO, which cannot be copied"));
  }
  Packer packer(own, sink);
  CTR_RETURN_IF_ERROR(packer.Add(file, split.name.empty() ? "." : split.name, 0, 0));
  CTR_RETURN_IF_ERROR(packer.Finish());
  return packer.totals();
}

}  // namespace ctr::tar
