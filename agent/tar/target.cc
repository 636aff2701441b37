#include "agent/tar/target.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "agent/tar/bytes.h"

namespace ctr::tar {
namespace {

Status Unsafe(const std::string& path) {
  return absl::InvalidArgumentError(
      absl::StrCat("the archive names \"", Shown(path), "\", which leads out of it"));
}

// The names in an entry's path.
StatusOr<std::vector<std::string>> NamesOf(const std::string& path) {
  if (path.starts_with('/') || path.find('\0') != std::string::npos) return Unsafe(path);
  std::vector<std::string> names;
  for (absl::string_view name : absl::StrSplit(path, '/')) {
    if (name == "..") return Unsafe(path);
    if (!name.empty() && name != ".") names.emplace_back(name);
  }
  return names;
}

StatusOr<UniqueFd> OpenDirectory(const std::string& path) {
  UniqueFd directory = OpenPath(path, O_PATH | O_DIRECTORY);
  if (!directory.valid()) {
    return ErrnoError(errno, absl::StrCat("cannot copy into ", Shown(path)));
  }
  return directory;
}

// The directory that has the open file in it, and the file's name there: where the links on the way
// to it lead.
StatusOr<SplitPath> RealPlace(const UniqueFd& file, const OwnDescriptors& own) {
  CTR_ASSIGN_OR_RETURN(std::string path, own.PathOf(file.get()));
  return Split(path);
}

}  // namespace

StatusOr<Target> Target::ForExtract(const std::string& path) {
  CTR_ASSIGN_OR_RETURN(UniqueFd directory, OpenDirectory(path));
  return Target(std::move(directory), "", "");
}

StatusOr<Target> Target::ForCopy(const std::string& path, const Entry& first,
                                 const OwnDescriptors& own) {
  CTR_ASSIGN_OR_RETURN(std::vector<std::string> names, NamesOf(first.path));
  if (names.size() > 1) return Unsafe(first.path);
  const std::string top = names.empty() ? "" : names[0];
  const bool is_directory = first.type == EntryType::kDirectory;
  if (top.empty() && !is_directory) return Unsafe(first.path);
  SplitPath split = Split(path);
  UniqueFd there = OpenPath(path, O_PATH);
  if (there.valid()) {
    struct stat status = {};
    if (::fstat(there.get(), &status) != 0) {
      return ErrnoError(errno, absl::StrCat("cannot copy to ", Shown(path)));
    }
    if (S_ISDIR(status.st_mode)) return Target(std::move(there), top, top);
    if (is_directory) {
      return absl::FailedPreconditionError(
          absl::StrCat("cannot copy a directory onto ", Shown(path), ", which is none"));
    }
    CTR_ASSIGN_OR_RETURN(split, RealPlace(there, own));
  } else if (errno != ENOENT) {
    return ErrnoError(errno, absl::StrCat("cannot copy to ", Shown(path)));
  } else if (split.name.empty() || (split.wants_directory && !is_directory)) {
    return absl::NotFoundError(absl::StrCat("there is no directory ", Shown(path)));
  }
  CTR_ASSIGN_OR_RETURN(UniqueFd parent, OpenDirectory(split.parent));
  return Target(std::move(parent), top, split.name);
}

StatusOr<std::string> Target::PlaceOf(const std::string& entry_path) const {
  CTR_ASSIGN_OR_RETURN(std::vector<std::string> names, NamesOf(entry_path));
  if (!top_.empty()) {
    if (names.empty() || names[0] != top_) return Unsafe(entry_path);
    names[0] = name_;
  } else if (!name_.empty()) {
    names.insert(names.begin(), name_);
  }
  return absl::StrJoin(names, "/");
}

}  // namespace ctr::tar
