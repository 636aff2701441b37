#include "agent/runtime/containerd/root_walk.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

#include <cerrno>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "agent/base/fd.h"
#include "agent/base/utf8.h"
#include "agent/runtime/containerd/layers.h"

namespace ctr {
namespace {

using Make = WalkRules::Make;

// Nobody else uses the root file system meanwhile.
class Walk {
 public:
  Walk(WalkRoot root, const WalkTarget& target, const WalkRules& rules)
      : root_(root), target_(target), rules_(rules) {}

  StatusOr<std::string> Run(const std::string& path) {
    Prepend(path);
    CTR_RETURN_IF_ERROR(Return());
    for (int components = 0; !rest_.empty(); ++components) {
      if (components == kMaxComponents) return CannotBe("it leads through too many folders");
      const std::string name = std::move(rest_.back());
      rest_.pop_back();
      CTR_RETURN_IF_ERROR(name == ".." ? Leave() : Enter(name));
    }
    return absl::StrCat("/", absl::StrJoin(place_, "/"));
  }

 private:
  Status CannotBe(absl::string_view why) const {
    return Error(absl::StatusCode::kFailedPrecondition, code::kStartFailed,
                 absl::StrCat(target_.what, " can't be made: ", why, ": ", target_.advice));
  }

  Status CannotBe(const std::string& name, int error) const {
    return CannotBe(absl::StrCat(PathOf(name), ": ", std::generic_category().message(error)));
  }

  // What is called `name` where we are.
  std::string PathOf(const std::string& name) const {
    return absl::StrCat("/", absl::StrJoin(place_, "/"), place_.empty() ? "" : "/", name);
  }

  void Prepend(const std::string& path) {
    std::vector<std::string> names = absl::StrSplit(path, '/', absl::SkipEmpty());
    std::erase(names, ".");
    rest_.insert(rest_.end(), names.rbegin(), names.rend());
  }

  Status Open(int parent, const std::string& name) {
    UniqueFd opened(::openat(parent, name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    if (!opened.valid()) return CannotBe(name, errno);
    folder_ = std::move(opened);
    return absl::OkStatus();
  }

  Status Return() {
    place_.clear();
    missing_ = 0;
    return Open(root_.fd, ".");
  }

  Status Leave() {
    if (place_.empty()) return absl::OkStatus();  // above the root is the root
    place_.pop_back();
    if (missing_ > 0) {
      --missing_;
      return absl::OkStatus();
    }
    return Open(folder_.get(), "..");
  }

  Status Enter(const std::string& name) {
    // The spec is JSON: runc would get another path than the one that was walked.
    if (!IsUtf8(name) || name.find('\0') != std::string::npos) {
      return CannotBe("a name on its way is not UTF-8");
    }
    struct stat info{};
    const int error = missing_ > 0 ? ENOENT
                      : ::fstatat(folder_.get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0
                          ? 0
                          : errno;
    if (error == 0 && S_ISLNK(info.st_mode)) return Follow(name);
    if (rules_.stops.contains(PathOf(name))) {
      rest_.clear();
    } else if (rules_.make == Make::kNothing) {
      CTR_RETURN_IF_ERROR(Pass(name, error, info.st_mode));
    } else {
      CTR_RETURN_IF_ERROR(MakeOne(name, error, info.st_mode));
    }
    place_.push_back(name);
    return absl::OkStatus();
  }

  // What is no folder will be hidden by one.
  Status Pass(const std::string& name, int error, mode_t mode) {
    if (error != 0 && error != ENOENT) return CannotBe(name, error);
    if (error == 0 && S_ISDIR(mode)) return Open(folder_.get(), name);
    ++missing_;
    return absl::OkStatus();
  }

  Status MakeOne(const std::string& name, int error, mode_t mode) {
    const bool to_file = rest_.empty() && rules_.make == Make::kFile;
    if (error != 0) {
      if (error != ENOENT) return CannotBe(name, error);
      if (!Create(name, to_file)) return CannotBe(name, errno);
    } else if (S_ISDIR(mode) == to_file) {
      return CannotBe(
          absl::StrCat(PathOf(name), " is a ", to_file ? "folder, no file" : "file, no folder"));
    }
    return to_file ? absl::OkStatus() : Open(folder_.get(), name);
  }

  bool Create(const std::string& name, bool file) const {
    if (!file) return ::mkdirat(folder_.get(), name.c_str(), 0755) == 0;
    return UniqueFd(::openat(folder_.get(), name.c_str(), O_CREAT | O_EXCL | O_CLOEXEC, 0644))
        .valid();
  }

  Status Follow(const std::string& name) {
    const std::string link = PathOf(name);
    if (rules_.links == Links::kNone) {
      return CannotBe(absl::StrCat(link, " is a link inside another volume"));
    }
    struct stat info{};
    if (rules_.links == Links::kOfImage &&
        ::fstatat(root_.own_files, link.c_str() + 1, &info, AT_SYMLINK_NOFOLLOW) == 0) {
      return CannotBe(absl::StrCat("the instance has made the link ", link,
                                   ", which may not lead a part of a read-only root elsewhere: "
                                   "destroy it, or set read_only = false"));
    }
    if (++followed_ > kMaxLinks) return CannotBe(name, ELOOP);
    char target[PATH_MAX];
    const ssize_t size = ::readlinkat(folder_.get(), name.c_str(), target, sizeof(target));
    if (size <= 0) return CannotBe(name, errno);
    const std::string text(target, size);
    Prepend(text);
    return text[0] == '/' ? Return() : absl::OkStatus();
  }

  const WalkRoot root_;
  const WalkTarget& target_;
  const WalkRules& rules_;
  std::vector<std::string> rest_;   // the next component last
  std::vector<std::string> place_;  // where we are
  UniqueFd folder_;                 // the same, without its last `missing_` components
  int missing_ = 0;
  int followed_ = 0;
};

}  // namespace

StatusOr<std::string> WalkTo(WalkRoot root, const WalkTarget& target, const std::string& path,
                             const WalkRules& rules) {
  return Walk(root, target, rules).Run(path);
}

}  // namespace ctr
