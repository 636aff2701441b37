#include "agent/proxy/access_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "agent/base/utf8.h"
#include "spdlog/spdlog.h"

namespace ctr {
namespace {

constexpr size_t kManyBytes = size_t{256} << 10;

// RFC 3339 in UTC, with milliseconds.
void AppendTime(std::string& out, WallTime at) {
  const auto since = at.time_since_epoch();
  const time_t seconds = std::chrono::floor<std::chrono::seconds>(since).count();
  tm parts = {};
  ::gmtime_r(&seconds, &parts);
  char text[32];
  out.append(text, ::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts));
  absl::StrAppendFormat(&out, ".%03dZ",
                        std::chrono::floor<std::chrono::milliseconds>(since).count() % 1000);
}

// What is no UTF-8 becomes U+FFFD, byte by byte.
void AppendString(std::string& out, std::string_view text) {
  out += '"';
  for (size_t at = 0; at < text.size();) {
    const size_t length = Utf8SequenceLength(text.substr(at));
    const auto c = static_cast<unsigned char>(text[at]);
    if (length == 0) {
      out += "\\ufffd";
      ++at;
      continue;
    }
    if (c == '"' || c == '\\') {
      out += '\\';
      out += text[at];
    } else if (c < 0x20) {
      absl::StrAppendFormat(&out, "\\u%04x", c);
    } else {
      out.append(text.substr(at, length));
    }
    at += length;
  }
  out += '"';
}

void AppendDuration(std::string& out, Duration duration) {
  absl::StrAppendFormat(&out, "%.3f", std::chrono::duration<double, std::milli>(duration).count());
}

}  // namespace

void AppendAccessEntry(std::string& out, const AccessEntry& entry) {
  out += "{\"time\":\"";
  AppendTime(out, entry.at);
  out += "\",\"client\":";
  AppendString(out, entry.client);
  if (entry.status != 0) {
    const size_t space = entry.request.find(' ');
    out += ",\"method\":";
    AppendString(out, entry.request.substr(0, space));
    out += ",\"target\":";
    AppendString(out, space == std::string_view::npos ? std::string_view()
                                                      : entry.request.substr(space + 1));
    out += ",\"host\":";
    AppendString(out, entry.host);
    absl::StrAppend(&out, ",\"status\":", entry.status);
  }
  out += ",\"class\":";
  AppendString(out, entry.instance->class_name);
  out += ",\"id\":";
  AppendString(out, entry.instance->id);
  absl::StrAppend(&out, ",\"bytes_in\":", entry.bytes_in, ",\"bytes_out\":", entry.bytes_out,
                  ",\"ms\":");
  AppendDuration(out, entry.took);
  out += ",\"wake_ms\":";
  AppendDuration(out, entry.wake);
  if (!entry.error.empty()) {
    out += ",\"error\":";
    AppendString(out, entry.error);
  }
  out += "}\n";
}

void AccessLog::Add(const AccessEntry& entry) {
  if (!enabled()) return;
  AppendAccessEntry(lines_, entry);
  if (lines_.size() >= kManyBytes) Flush();
}

// The file at the path, which somebody may have moved away.
bool AccessLog::Open() {
  struct stat here = {};
  struct stat ours = {};
  if (file_.valid() && ::stat(path_.c_str(), &here) == 0 && ::fstat(file_.get(), &ours) == 0 &&
      here.st_ino == ours.st_ino && here.st_dev == ours.st_dev) {
    return true;
  }
  file_ = UniqueFd(::open(path_.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640));
  return file_.valid();
}

void AccessLog::Flush() {
  if (lines_.empty()) return;
  // One write: the loops' lines must not mix.
  const bool written = Open() && ::write(file_.get(), lines_.data(), lines_.size()) ==
                                     static_cast<ssize_t>(lines_.size());
  if (!written && !std::exchange(failing_, true)) {
    spdlog::error("cannot write the access log {}: {}; its lines are lost until that ends", path_,
                  std::strerror(errno));
  }
  if (written) failing_ = false;
  lines_.clear();
}

}  // namespace ctr
