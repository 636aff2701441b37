#include "agent/config/class_isolation.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace ctr::config {
namespace {

constexpr int64_t kMinTmpfsBytes = 4096;            // a page
constexpr int64_t kTmpfsBytes = int64_t{64} << 20;  // what Docker gives to /dev/shm

// "/a/b" of "/a/b/"; none of what is relative, or has an empty part, "." or "..".
std::optional<std::string> PlainPath(std::string path) {
  if (!absl::StartsWith(path, "/")) return std::nullopt;
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  if (path == "/") return path;
  std::vector<std::string> parts = absl::StrSplit(path.substr(1), '/');
  const bool plain = std::none_of(parts.begin(), parts.end(), [](const std::string& part) {
    return part.empty() || part == "." || part == "..";
  });
  return plain ? std::optional(path) : std::nullopt;
}

std::optional<std::string> ReadPath(TableReader& table, std::string_view key) {
  std::optional<std::string> text = table.String(key);
  if (!text) return std::nullopt;
  std::optional<std::string> path = PlainPath(*text);
  const bool odd = path && std::any_of(path->begin(), path->end(), absl::ascii_iscntrl);
  if (odd) table.Fail(key, "must have no control characters, such as a line's end");
  if (!path) table.Fail(key, "must be an absolute path without \".\", \"..\" and \"//\"");
  return path;
}

void ReadVolumePath(TableReader& table, Volume& volume, const std::vector<Volume>& others) {
  std::optional<std::string> path = ReadPath(table, "path");
  if (!path) {
    if (table.Find("path") == nullptr) {
      table.Fail("path", "is missing; write it like path = \"/data\"");
    }
    return;
  }
  volume.path = *path;
  const bool same = std::any_of(others.begin(), others.end(),
                                [&](const Volume& other) { return other.path == *path; });
  if (same) table.Fail("path", absl::StrCat(*path, " is mounted twice"));
  if (const std::string why = WhyNoVolume(*path); !why.empty()) {
    table.Fail("path",
               absl::StrCat(*path, " can't be a volume: ", why, "; choose another, such as /data"));
  }
}

Volume ReadVolume(TableReader& table, const std::vector<Volume>& others) {
  Volume volume;
  ReadVolumePath(table, volume, others);
  const bool tmpfs = table.Bool("tmpfs").value_or(false);
  if (std::optional<std::string> host = ReadPath(table, "host")) {
    volume.host = *host;
    if (tmpfs) table.Fail("host", "and tmpfs exclude each other; leave one out");
  } else if (!tmpfs && table.Find("host") == nullptr) {
    table.Fail("host", "is missing; write it like host = \"/srv/data\", or tmpfs = true");
  }
  volume.read_only = table.Bool("read_only").value_or(false);
  if (tmpfs && volume.read_only) {
    table.Fail("read_only", "makes no sense for a tmpfs: it is empty");
  }
  std::optional<int64_t> size = table.Size("size", kMinTmpfsBytes);
  if (size && !tmpfs) table.Fail("size", "is of a tmpfs alone; a host's folder has none");
  if (tmpfs) volume.size_bytes = size.value_or(kTmpfsBytes);
  return volume;
}

std::vector<std::string> ReadCapabilities(TableReader& table, std::string_view key) {
  std::vector<std::string> capabilities;
  for (const std::string& text : table.Strings(key).value_or(std::vector<std::string>())) {
    StatusOr<std::string> capability = ParseCapability(text);
    if (capability.ok()) {
      capabilities.push_back(*std::move(capability));
    } else {
      table.Fail(key, std::string(capability.status().message()));
    }
  }
  return capabilities;
}

// Docker's words: the default holds, or "unconfined".
bool ReadConfined(TableReader& table, std::string_view key) {
  return table.Choice<bool>(key, {{"default", true}, {"unconfined", false}}).value_or(true);
}

void ReadSecurity(TableReader& file, Security& security) {
  std::optional<TableReader> table = file.Table("security");
  if (!table) return;
  security.cap_add = ReadCapabilities(*table, "cap_add");
  security.cap_drop = ReadCapabilities(*table, "cap_drop");
  security.seccomp = ReadConfined(*table, "seccomp");
  security.masked_paths = ReadConfined(*table, "systempaths");
  security.no_new_privileges = table->Bool("no_new_privileges").value_or(true);
  if (std::optional<std::string> profile = table->String("apparmor")) {
    if (profile->empty()) table->Fail("apparmor", "must name a profile, or \"unconfined\"");
    if (*profile != "default") security.apparmor = *std::move(profile);
  }
  table->Finish(&file);
}

// Docker's range, in a "user:group".
bool HasTooLargeNumber(absl::string_view user) {
  const std::vector<absl::string_view> parts = absl::StrSplit(user, ':');
  return std::any_of(parts.begin(), parts.end(), [](absl::string_view part) {
    int32_t id = 0;
    return !part.empty() && std::all_of(part.begin(), part.end(), absl::ascii_isdigit) &&
           !absl::SimpleAtoi(part, &id);
  });
}

// No user or group is named like that, and a number has none.
bool HasSign(absl::string_view user) {
  const std::vector<absl::string_view> parts = absl::StrSplit(user, ':');
  return std::any_of(parts.begin(), parts.end(), [](absl::string_view part) {
    return absl::StartsWith(part, "+") || absl::StartsWith(part, "-");
  });
}

void ReadUser(TableReader& file, ClassConfig& config) {
  std::optional<std::string> user = file.String("user");
  if (!user) return;
  const bool odd = user->empty() || *user == ":" ||
                   std::count(user->begin(), user->end(), ':') > 1 || HasSign(*user) ||
                   user->find_first_of(" \t\r\n") != std::string::npos;
  if (odd) {
    file.Fail("user", "must be written like \"app\", \"app:web\" or \"1000:1000\"");
  } else if (HasTooLargeNumber(*user)) {
    file.Fail("user", "has a number beyond 2147483647, the highest of users and groups");
  }
  config.user = *std::move(user);
}

}  // namespace

void ReadIsolation(TableReader& file, ClassConfig& config) {
  ReadUser(file, config);
  config.workdir = ReadPath(file, "workdir");
  for (TableReader& table : file.Tables("volume")) {
    config.volumes.push_back(ReadVolume(table, config.volumes));
    table.Finish(&file);
  }
  ReadSecurity(file, config.security);
}

}  // namespace ctr::config
