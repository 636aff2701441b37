#include "agent/runtime/containerd/user.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "agent/base/fd.h"
#include "agent/runtime/containerd/layers.h"

namespace ctr {
namespace {

using absl::string_view;

constexpr int64_t kMaxFileBytes = 4 << 20;

StatusOr<std::string> ReadAll(int fd, const char* path) {
  std::string text;
  char block[16384];
  while (true) {
    ssize_t size = read(fd, block, sizeof(block));
    if (size < 0) return ErrnoError(errno, absl::StrCat("cannot read the image's ", path));
    if (size == 0) return text;
    text.append(block, size);
    if (static_cast<int64_t>(text.size()) > kMaxFileBytes) {
      return absl::FailedPreconditionError(
          absl::StrCat("the image's ", path, " is larger than 4 MiB: make it smaller"));
    }
  }
}

// A file below /etc as the container will see it; "" if there is none.
StatusOr<std::string> ReadEtc(const std::vector<std::string>& lower_dirs, const char* path) {
  CTR_ASSIGN_OR_RETURN(std::string place, FindInLayers(lower_dirs, path));
  struct stat info{};
  if (place.empty() || ::lstat(place.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) return "";
  UniqueFd file(::open(place.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  if (!file.valid()) return ErrnoError(errno, absl::StrCat("cannot read the image's ", path));
  return ReadAll(file.get(), path);
}

std::optional<uint32_t> Number(string_view text) {
  uint32_t number = 0;
  // Docker's range: the highest numbers mean "no change" to the kernel.
  if (!absl::SimpleAtoi(text, &number) || number > 0x7fffffff) return std::nullopt;
  return number;
}

struct User {
  std::string name;
  uint32_t uid = 0;
  uint32_t gid = 0;
};

// name:password:uid:gid:…, the first line that matches.
std::optional<User> FindUser(string_view passwd, string_view name_or_uid) {
  std::optional<uint32_t> uid = Number(name_or_uid);
  for (string_view line : absl::StrSplit(passwd, '\n')) {
    std::vector<string_view> fields = absl::StrSplit(line, ':');
    if (fields.size() < 4 || fields[0].empty()) continue;
    std::optional<uint32_t> line_uid = Number(fields[2]);
    std::optional<uint32_t> line_gid = Number(fields[3]);
    if (!line_uid || !line_gid) continue;
    if (fields[0] == name_or_uid || (uid && *uid == *line_uid)) {
      return User{std::string(fields[0]), *line_uid, *line_gid};
    }
  }
  return std::nullopt;
}

// name:password:gid:member,member…
template <typename Visit>
void ForEachGroup(string_view group, Visit visit) {
  for (string_view line : absl::StrSplit(group, '\n')) {
    std::vector<string_view> fields = absl::StrSplit(line, ':');
    if (fields.size() < 3 || fields[0].empty()) continue;
    std::optional<uint32_t> gid = Number(fields[2]);
    if (gid) visit(fields[0], *gid, fields.size() > 3 ? fields[3] : string_view());
  }
}

std::vector<uint32_t> GroupsOf(string_view group, string_view user) {
  std::vector<uint32_t> gids;
  ForEachGroup(group, [&](string_view, uint32_t gid, string_view members) {
    for (string_view member : absl::StrSplit(members, ',')) {
      if (member == user) gids.push_back(gid);
    }
  });
  return gids;
}

std::optional<uint32_t> FindGroup(string_view group, string_view name) {
  std::optional<uint32_t> found;
  ForEachGroup(group, [&](string_view line_name, uint32_t gid, string_view) {
    if (line_name == name && !found) found = gid;
  });
  return found;
}

Status UnknownName(const char* what, string_view name, const char* file) {
  return Error(
      absl::StatusCode::kFailedPrecondition, code::kStartFailed,
      absl::StrCat("the image's USER, or the class's `user`, names the ", what, " \"", name,
                   "\", which is not in the image's ", file, ": add it there, or use a number"));
}

struct Wanted {
  string_view user;   // "" for root
  string_view group;  // "" for the user's
};

Wanted Split(string_view text) {
  size_t colon = text.find(':');
  if (colon == string_view::npos) return {text, {}};
  return {text.substr(0, colon), text.substr(colon + 1)};
}

}  // namespace

Status CheckAccountFiles(const std::vector<std::string>& layers) {
  for (const char* path : {"etc/passwd", "etc/group"}) {
    CTR_ASSIGN_OR_RETURN(std::string place, FindInLayers(layers, path));
    struct stat info{};
    if (place.empty() || ::lstat(place.c_str(), &info) != 0) continue;
    if (S_ISREG(info.st_mode) && info.st_size <= kMaxFileBytes) continue;
    return Error(absl::StatusCode::kFailedPrecondition, code::kStartFailed,
                 absl::StrCat("its /", path,
                              " is no file of at most 4 MiB, and has to be read "
                              "before its program starts: put one there in the image; if the "
                              "instance did that on its kept disk, destroy it"));
  }
  return absl::OkStatus();
}

StatusOr<ProcessUser> ResolveUser(std::string user, std::vector<std::string> lower_dirs) {
  Wanted wanted = Split(user);
  std::optional<uint32_t> uid = wanted.user.empty() ? 0 : Number(wanted.user);
  std::optional<uint32_t> gid = Number(wanted.group);
  if (uid && gid) return ProcessUser{*uid, *gid, {*gid}};

  CTR_ASSIGN_OR_RETURN(std::string passwd, ReadEtc(lower_dirs, "etc/passwd"));
  CTR_ASSIGN_OR_RETURN(std::string group, ReadEtc(lower_dirs, "etc/group"));
  std::optional<User> found = FindUser(passwd, uid ? absl::StrCat(*uid) : std::string(wanted.user));
  if (!found && !uid) return UnknownName("user", wanted.user, "/etc/passwd");
  ProcessUser result;
  result.uid = found ? found->uid : *uid;
  result.gid = found ? found->gid : 0;
  if (!wanted.group.empty()) {
    if (!gid) gid = FindGroup(group, wanted.group);
    if (!gid) return UnknownName("group", wanted.group, "/etc/group");
    result.gid = *gid;
  }
  // Like Docker: the group itself, and those that list the user unless a group was named.
  result.additional_gids = {result.gid};
  if (found && wanted.group.empty()) {
    for (uint32_t further : GroupsOf(group, found->name)) result.additional_gids.push_back(further);
  }
  return result;
}

}  // namespace ctr
