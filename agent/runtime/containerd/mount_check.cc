#include "agent/runtime/containerd/mount_check.h"

#include <algorithm>
#include <map>
#include <set>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "agent/model/isolation.h"

namespace ctr {
namespace {

// "\040" is a space: so the kernel writes what would end a field.
std::string Unescaped(absl::string_view field) {
  std::string text;
  for (size_t i = 0; i < field.size(); ++i) {
    if (field[i] != '\\' || i + 3 >= field.size()) {
      text.push_back(field[i]);
      continue;
    }
    text.push_back(static_cast<char>((field[i + 1] - '0') * 64 + (field[i + 2] - '0') * 8 +
                                     (field[i + 3] - '0')));
    i += 3;
  }
  return text;
}

}  // namespace

Status CheckMountPoints(const std::string& mountinfo, const ContainerMounts& mounts) {
  std::map<std::string, std::vector<std::string>> types;  // of file systems, by mount point
  for (absl::string_view line : absl::StrSplit(mountinfo, '\n')) {
    const std::vector<absl::string_view> fields = absl::StrSplit(line, ' ');
    const auto dash = std::find(fields.begin(), fields.end(), "-");
    if (fields.size() < 5 || fields.end() - dash < 2) continue;
    types[Unescaped(fields[4])].emplace_back(dash[1]);
  }
  const auto is_cgroup = [](const std::string& path) { return IsBelow(path, "/sys/fs/cgroup"); };
  const auto led = [](const std::string& path) {
    return Error(
        absl::StatusCode::kFailedPrecondition, code::kStartFailed,
        absl::StrCat(path,
                     " can't be made: a link has led it, or another mount, elsewhere meanwhile"));
  };
  // Who covers these could lead the runtime's masks, too, and those could look like what is
  // missing.
  for (const std::string& path : mounts.own) {
    if (types[path].empty() || (types[path].size() > 1 && !is_cgroup(path))) return led(path);
  }
  const std::set<std::string> covered(mounts.covered.begin(), mounts.covered.end());
  const std::set<std::string> own(mounts.own.begin(), mounts.own.end());
  for (const auto& [path, file_systems] : types) {
    const bool is_kernels = IsBelow(path, "/proc") || IsBelow(path, "/sys");
    if (!is_kernels || is_cgroup(path) || own.contains(path)) continue;
    if (!covered.contains(path)) return led(path);
    for (const std::string& type : file_systems) {
      if (type != "proc" && type != "sysfs" && type != "tmpfs") return led(path);
    }
  }
  for (const std::string& path : mounts.wanted) {
    if (types[path].empty()) return led(path);
  }
  return absl::OkStatus();
}

}  // namespace ctr
