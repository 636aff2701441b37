#include "agent/runtime/containerd/layers.h"

#include <limits.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace ctr {
namespace {

// A folder of what is merged: that of each layer which has part in it, the topmost first.
using MergedFolder = std::vector<std::string>;

// What a folder has under a name; both empty: nothing.
struct Entry {
  MergedFolder folder;
  std::string file;  // anything but a folder
  bool is_link = false;
};

// How an overlay says that what lies below is deleted: a device 0:0 in its place.
bool IsWhiteout(const struct stat& info) { return S_ISCHR(info.st_mode) && info.st_rdev == 0; }

// Whether a layer's folder hides the same folder of the layers below.
bool IsOpaque(const std::string& folder) {
  char value = 0;
  return ::lgetxattr(folder.c_str(), "trusted.overlay.opaque", &value, 1) == 1 && value == 'y';
}

StatusOr<Entry> Look(const MergedFolder& parent, absl::string_view name) {
  Entry entry;
  for (const std::string& part : parent) {
    const std::string path = absl::StrCat(part, "/", name);
    struct stat info{};
    if (::lstat(path.c_str(), &info) != 0) {
      if (errno == ENOENT) continue;
      return ErrnoError(errno, absl::StrCat("cannot look at ", path));
    }
    if (IsWhiteout(info)) break;
    if (!S_ISDIR(info.st_mode)) {
      if (!entry.folder.empty()) break;
      entry.file = path;
      entry.is_link = S_ISLNK(info.st_mode);
      break;
    }
    entry.folder.push_back(path);
    if (IsOpaque(path)) break;
  }
  return entry;
}

// The components before those that are there, the next one last.
void Prepend(absl::string_view path, std::vector<std::string>& rest) {
  const std::vector<std::string> names = absl::StrSplit(path, '/', absl::SkipEmpty());
  rest.insert(rest.end(), names.rbegin(), names.rend());
}

}  // namespace

StatusOr<std::string> FindInLayers(const std::vector<std::string>& layers, absl::string_view path) {
  std::vector<MergedFolder> way = {layers};  // from the root to where we are
  std::vector<std::string> rest;
  Prepend(path, rest);
  int links = 0;
  for (int components = 0; !rest.empty(); ++components) {
    if (components == kMaxComponents) {
      return Error(absl::StatusCode::kFailedPrecondition, code::kStartFailed,
                   absl::StrCat("the links of /", path, " lead through too many folders"));
    }
    const std::string name = std::move(rest.back());
    rest.pop_back();
    if (name == ".") continue;
    if (name == "..") {
      if (way.size() > 1) way.pop_back();
      continue;
    }
    CTR_ASSIGN_OR_RETURN(Entry entry, Look(way.back(), name));
    if (entry.is_link) {
      char target[PATH_MAX];
      const ssize_t size = ::readlink(entry.file.c_str(), target, sizeof(target));
      if (size <= 0) return ErrnoError(errno, absl::StrCat("cannot read the link ", entry.file));
      if (++links > kMaxLinks) return "";
      if (target[0] == '/') way.resize(1);
      Prepend(absl::string_view(target, size), rest);
    } else if (entry.folder.empty()) {
      return rest.empty() ? entry.file : "";
    } else {
      way.push_back(std::move(entry.folder));
    }
  }
  return way.back().empty() ? "" : way.back().front();
}

}  // namespace ctr
