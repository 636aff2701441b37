#include "agent/tar/unpack.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "agent/tar/reader.h"
#include "agent/tar/target.h"

namespace ctr::tar {
namespace {

// A file under a name of its own until it is complete; removed unless it was put in its place.
class NewFile {
 public:
  explicit NewFile(int directory) : directory_(directory) {
    uint64_t number = 0;
    // Eight bytes are never cut short; a name that somebody has guessed is refused (O_EXCL).
    (void)::getrandom(&number, sizeof(number), 0);
    name_ = absl::StrCat(".ctr-cp-", absl::Hex(number, absl::kZeroPad16));
  }
  NewFile(const NewFile&) = delete;
  ~NewFile() {
    // A rename onto another link of the same file leaves it there, too.
    if (made_) ::unlinkat(directory_, name_.c_str(), 0);
  }

  const char* name() const { return name_.c_str(); }
  // After it was made under name().
  void Made() { made_ = true; }
  // 0, or -1 with errno.
  int MoveTo(const std::string& name) {
    return ::renameat(directory_, name_.c_str(), directory_, name.c_str());
  }

 private:
  const int directory_;
  std::string name_;
  bool made_ = false;
};

class Unpacker {
 public:
  Unpacker(const UnpackOptions& options, const OwnDescriptors& own, ByteSource* source)
      : options_(options), own_(own), reader_(source), piece_(kPieceBytes) {}

  StatusOr<Totals> Run();

 private:
  // A directory's own attributes: set at the end, after which nothing may be allowed in it.
  struct Later {
    std::string place;
    Entry entry;
  };
  // Where an entry goes: its directory, open, and its name there.
  struct Spot {
    UniqueFd directory;
    std::string name;
  };

  Status MakeAll(const Target& target, std::optional<Entry> entry);
  std::string WhatIsWritten() const;
  Status Make(const Target& target, const Entry& entry);
  Status MakeDirectory(const Target& target, const std::string& place, const Entry& entry);
  Status MakeFile(const Spot& spot, NewFile& file, const Entry& entry);
  Status MakeHardLink(const Target& target, const Spot& spot, NewFile& file, const Entry& entry);
  Status MakeSymlink(const Spot& spot, NewFile& file, const Entry& entry);
  StatusOr<Spot> SpotOf(const Target& target, const std::string& place);
  StatusOr<UniqueFd> OpenParents(const Target& target, const std::string& place);
  void RemoveParents(const Target& target);
  Status SetAttributes(int fd, const Entry& entry) const;
  Status FinishDirectories(const Target& target);

  Status Failed(const Entry& entry) const { return Failed(entry.path); }
  Status Failed(const std::string& path) const {
    return ErrnoError(errno, absl::StrCat("cannot write ", Shown(path)));
  }

  const UnpackOptions& options_;
  const OwnDescriptors& own_;
  Reader reader_;
  std::vector<char> piece_;
  std::vector<Later> directories_;
  // The directories made for the present entry that the archive does not have, from the top down.
  std::vector<std::string> parents_;
  // The files made here, which alone may get another name by the archive.
  absl::flat_hash_set<std::pair<dev_t, ino_t>> made_;
  Totals totals_;
};

StatusOr<Totals> Unpacker::Run() {
  CTR_ASSIGN_OR_RETURN(std::optional<Entry> entry, reader_.Next());
  if (!entry && !options_.extract) return absl::InvalidArgumentError("the copy is empty");
  if (!options_.top.empty() && entry->path != options_.top && entry->path != options_.top + "/") {
    return absl::InvalidArgumentError(
        absl::StrCat("the copy is of ", Shown(entry->path), ", not of ", Shown(options_.top)));
  }
  CTR_ASSIGN_OR_RETURN(Target target, options_.extract
                                          ? Target::ForExtract(options_.path)
                                          : Target::ForCopy(options_.path, *entry, own_));
  Status status = MakeAll(target, std::move(entry));
  if (status.ok()) return totals_;
  return Status(status.code(), absl::StrCat(status.message(), "; ", WhatIsWritten()));
}

std::string Unpacker::WhatIsWritten() const {
  if (totals_.entries == 0) return "nothing is written";
  return absl::StrCat(totals_.entries, totals_.entries == 1 ? " entry was" : " entries were",
                      " written before");
}

Status Unpacker::MakeAll(const Target& target, std::optional<Entry> entry) {
  while (entry) {
    parents_.clear();
    if (Status made = Make(target, *entry); !made.ok()) {
      RemoveParents(target);
      return made;
    }
    if (entry->type != EntryType::kOther) ++totals_.entries;
    CTR_ASSIGN_OR_RETURN(entry, reader_.Next());
  }
  CTR_RETURN_IF_ERROR(FinishDirectories(target));
  return reader_.Drain();
}

Status Unpacker::Make(const Target& target, const Entry& entry) {
  CTR_ASSIGN_OR_RETURN(std::string place, target.PlaceOf(entry.path));
  if (entry.type == EntryType::kOther) {
    if (totals_.left_out++ == 0) totals_.first_left_out = Shown(entry.path);
    return absl::OkStatus();
  }
  if (entry.type == EntryType::kDirectory) return MakeDirectory(target, place, entry);
  CTR_ASSIGN_OR_RETURN(Spot spot, SpotOf(target, place));
  struct stat before = {};
  if (::fstatat(spot.directory.get(), spot.name.c_str(), &before, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno != ENOENT) return Failed(entry);
  } else if (!S_ISREG(before.st_mode) && !S_ISLNK(before.st_mode)) {
    return absl::FailedPreconditionError(absl::StrCat(
        "cannot write ", Shown(entry.path), ": a ",
        S_ISDIR(before.st_mode) ? "directory" : "device, socket or FIFO", " has its place"));
  }
  NewFile file(spot.directory.get());
  if (entry.type == EntryType::kFile) {
    CTR_RETURN_IF_ERROR(MakeFile(spot, file, entry));
  } else if (entry.type == EntryType::kHardLink) {
    CTR_RETURN_IF_ERROR(MakeHardLink(target, spot, file, entry));
  } else {
    CTR_RETURN_IF_ERROR(MakeSymlink(spot, file, entry));
  }
  return file.MoveTo(spot.name) == 0 ? absl::OkStatus() : Failed(entry);
}

// The directory at `place`, open; made with those above it where it is missing.
StatusOr<UniqueFd> Unpacker::OpenParents(const Target& target, const std::string& place) {
  const std::string path = place.empty() ? "." : place;
  UniqueFd directory = OpenBelow(target.directory(), path, O_PATH | O_DIRECTORY);
  if (directory.valid()) return directory;
  if (errno != ENOENT || place.empty()) return Failed(place);
  CTR_ASSIGN_OR_RETURN(Spot spot, SpotOf(target, place));
  if (::mkdirat(spot.directory.get(), spot.name.c_str(), 0755) != 0) return Failed(place);
  parents_.push_back(place);
  directory = OpenBelow(target.directory(), path, O_PATH | O_DIRECTORY);
  if (!directory.valid()) return Failed(place);
  return directory;
}

// Those that are empty.
void Unpacker::RemoveParents(const Target& target) {
  for (auto place = parents_.rbegin(); place != parents_.rend(); ++place) {
    const SplitPath split = Split(*place);
    UniqueFd above = OpenBelow(target.directory(), split.parent, O_PATH | O_DIRECTORY);
    if (above.valid()) ::unlinkat(above.get(), split.name.c_str(), AT_REMOVEDIR);
  }
}

StatusOr<Unpacker::Spot> Unpacker::SpotOf(const Target& target, const std::string& place) {
  if (place.empty()) return absl::InvalidArgumentError("the archive has a file without a name");
  const size_t slash = place.rfind('/');
  Spot spot;
  spot.name = slash == std::string::npos ? place : place.substr(slash + 1);
  CTR_ASSIGN_OR_RETURN(
      spot.directory,
      OpenParents(target, slash == std::string::npos ? "" : place.substr(0, slash)));
  return spot;
}

Status Unpacker::MakeDirectory(const Target& target, const std::string& place, const Entry& entry) {
  if (place.empty()) return absl::OkStatus();  // it is there, and as its owner wants it
  CTR_ASSIGN_OR_RETURN(Spot spot, SpotOf(target, place));
  // Its final mode may forbid to write in it.
  const mode_t mode = (entry.mode & 0777) | S_IRWXU;
  if (::mkdirat(spot.directory.get(), spot.name.c_str(), mode) == 0) {
    directories_.push_back({place, entry});
    return absl::OkStatus();
  }
  if (errno != EEXIST) return Failed(entry);
  UniqueFd there = OpenBelow(spot.directory.get(), spot.name, O_PATH | O_DIRECTORY);
  if (!there.valid()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "cannot make the directory ", Shown(entry.path), ": a file or a link has its place"));
  }
  if (options_.preserve) directories_.push_back({place, entry});
  return absl::OkStatus();
}

Status Unpacker::MakeFile(const Spot& spot, NewFile& file, const Entry& entry) {
  UniqueFd fd(::openat(spot.directory.get(), file.name(),
                       O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd.valid()) return Failed(entry);
  file.Made();
  for (;;) {
    CTR_ASSIGN_OR_RETURN(size_t count, reader_.Read(piece_.data(), piece_.size()));
    if (count == 0) break;
    totals_.bytes += static_cast<int64_t>(count);
    for (size_t done = 0; done < count;) {
      const ssize_t written = ::write(fd.get(), piece_.data() + done, count - done);
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return Failed(entry);
      done += static_cast<size_t>(written);
    }
  }
  CTR_RETURN_IF_ERROR(SetAttributes(fd.get(), entry));
  struct stat status = {};
  if (::fstat(fd.get(), &status) != 0) return Failed(entry);
  made_.insert({status.st_dev, status.st_ino});
  return absl::OkStatus();
}

Status Unpacker::MakeHardLink(const Target& target, const Spot& spot, NewFile& file,
                              const Entry& entry) {
  CTR_ASSIGN_OR_RETURN(std::string place, target.PlaceOf(entry.link));
  CTR_ASSIGN_OR_RETURN(Spot other, SpotOf(target, place));
  if (::linkat(other.directory.get(), other.name.c_str(), spot.directory.get(), file.name(), 0) !=
      0) {
    return Failed(entry);
  }
  file.Made();
  struct stat status = {};
  if (::fstatat(spot.directory.get(), file.name(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
    return Failed(entry);
  }
  if (made_.contains({status.st_dev, status.st_ino})) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("the archive links ", Shown(entry.path), " to ",
                                                 Shown(entry.link), ", which is not from it"));
}

Status Unpacker::MakeSymlink(const Spot& spot, NewFile& file, const Entry& entry) {
  const int directory = spot.directory.get();
  if (::symlinkat(entry.link.c_str(), directory, file.name()) != 0) return Failed(entry);
  file.Made();
  if (options_.preserve &&
      ::fchownat(directory, file.name(), entry.uid, entry.gid, AT_SYMLINK_NOFOLLOW) != 0) {
    return Failed(entry);
  }
  const timespec times[2] = {{.tv_sec = 0, .tv_nsec = UTIME_OMIT}, entry.mtime};
  if (::utimensat(directory, file.name(), times, AT_SYMLINK_NOFOLLOW) != 0) return Failed(entry);
  return absl::OkStatus();
}

Status Unpacker::SetAttributes(int fd, const Entry& entry) const {
  // The owner first: a change of it takes setuid away.
  if (options_.preserve && ::fchown(fd, entry.uid, entry.gid) != 0) {
    return Annotate(Failed(entry), "cannot keep its owner (leave -a away)");
  }
  const mode_t kept = options_.preserve ? 07777 : 01777;
  if (::fchmod(fd, entry.mode & kept) != 0) return Failed(entry);
  const timespec times[2] = {{.tv_sec = 0, .tv_nsec = UTIME_OMIT}, entry.mtime};
  if (::futimens(fd, times) != 0) return Failed(entry);
  return absl::OkStatus();
}

Status Unpacker::FinishDirectories(const Target& target) {
  // Those inside first: the mode of one above may shut it.
  for (auto later = directories_.rbegin(); later != directories_.rend(); ++later) {
    UniqueFd fd = OpenBelow(target.directory(), later->place, O_RDONLY | O_DIRECTORY);
    if (!fd.valid()) return Failed(later->entry);
    CTR_RETURN_IF_ERROR(SetAttributes(fd.get(), later->entry));
  }
  return absl::OkStatus();
}

}  // namespace

StatusOr<Totals> Unpack(const UnpackOptions& options, const OwnDescriptors& own,
                        ByteSource* source) {
  return Unpacker(options, own, source).Run();
}

}  // namespace ctr::tar
