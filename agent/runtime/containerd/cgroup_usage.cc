// What a container uses, as its cgroups say: a handful of small files, some 10 µs each.
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "agent/base/fd.h"
#include "agent/base/read_file.h"
#include "agent/runtime/containerd/cgroup.h"

namespace ctr {
namespace {

// Version 1 writes "no limit" as the largest multiple of a page.
constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max() / 4096 * 4096 / 2;

StatusOr<std::string> ReadFile(const std::string& path) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return ErrnoError(errno, absl::StrCat("cannot read ", path));
  std::string text;
  std::array<char, 4096> buffer;
  for (;;) {
    const ssize_t count = ::read(file.get(), buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      // A cgroup that goes while it is read.
      const int error = errno == ENODEV ? ENOENT : errno;
      return ErrnoError(error, absl::StrCat("cannot read ", path));
    }
    if (count == 0) return text;
    text.append(buffer.data(), static_cast<size_t>(count));
  }
}

// The one number in a file; nothing for "max".
StatusOr<std::optional<int64_t>> ReadNumber(const std::string& path) {
  CTR_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  const absl::string_view word = absl::StripAsciiWhitespace(text);
  if (word == "max") return std::optional<int64_t>();
  // Version 1's largest values do not fit into an int64_t on every kernel.
  uint64_t value = 0;
  if (!absl::SimpleAtoi(word, &value)) {
    return absl::InternalError(absl::StrCat(path, " holds no number: ", word));
  }
  constexpr uint64_t kMost = std::numeric_limits<int64_t>::max();
  return std::optional<int64_t>(static_cast<int64_t>(std::min(value, kMost)));
}

// The number after `key` in a file of "key value" lines.
StatusOr<int64_t> ReadField(const std::string& path, absl::string_view key) {
  CTR_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    const std::pair<absl::string_view, absl::string_view> fields =
        absl::StrSplit(line, absl::MaxSplits(' ', 1));
    int64_t value = 0;
    if (fields.first == key && absl::SimpleAtoi(fields.second, &value)) return value;
  }
  return absl::InternalError(absl::StrCat(path, " has no line \"", key, "\""));
}

// "some avg10=1.53 avg60=…" is 0.0153 (Linux, Documentation/accounting/psi.rst). Nothing without
// such a line, or file: version 1 alone, psi=0, or a kernel before 5.13 for "full" of CPU.
std::optional<double> ReadPressure(const std::string& path, absl::string_view which) {
  StatusOr<std::string> text = ReadFile(path);
  if (!text.ok()) return std::nullopt;
  for (absl::string_view line : absl::StrSplit(*text, '\n')) {
    double percent = 0;
    if (absl::ConsumePrefix(&line, which) && absl::ConsumePrefix(&line, " avg10=") &&
        absl::SimpleAtod(line.substr(0, line.find(' ')), &percent)) {
      return percent / 100;
    }
  }
  return std::nullopt;
}

Status WriteFile(const std::string& path, absl::string_view text) {
  const UniqueFd opened(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!opened.valid() ||
      ::write(opened.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    return ErrnoError(errno, absl::StrCat("cannot write ", path));
  }
  return absl::OkStatus();
}

}  // namespace

StatusOr<Duration> Cgroups::CpuTime(const std::string& path) const {
  if (!cpuacct_mount_.empty()) {
    CTR_ASSIGN_OR_RETURN(std::optional<int64_t> nanoseconds,
                         ReadNumber(absl::StrCat(cpuacct_mount_, path, "/cpuacct.usage")));
    return std::chrono::nanoseconds(nanoseconds.value_or(0));
  }
  CTR_ASSIGN_OR_RETURN(int64_t microseconds,
                       ReadField(absl::StrCat(unified_mount_, path, "/cpu.stat"), "usage_usec"));
  return std::chrono::microseconds(microseconds);
}

Status Cgroups::SetIdle(const std::string& path, bool idle) const {
  const std::string& mount = cpu_mount_.empty() ? unified_mount_ : cpu_mount_;
  return WriteFile(absl::StrCat(mount, path, "/cpu.idle"), idle ? "1" : "0");
}

std::string Cgroups::ThreadCpuCgroup() const {
  if (cpu_mount_.empty()) return "";
  // 4:cpu,cpuacct:/user.slice
  const std::string text = ReadFileText("/proc/thread-self/cgroup");
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    const std::vector<absl::string_view> fields = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (fields.size() != 3) continue;
    const std::vector<absl::string_view> controllers = absl::StrSplit(fields[1], ',');
    if (absl::c_linear_search(controllers, "cpu")) return std::string(fields[2]);
  }
  return "";
}

Status Cgroups::MoveThread(int thread, const std::string& path) const {
  const std::string folder = cpu_mount_ + path;
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) return ErrnoError(error.value(), absl::StrCat("cannot make ", folder));
  return WriteFile(folder + "/tasks", absl::StrCat(thread));
}

StatusOr<ResourceUsage> Cgroups::Usage(const std::string& path) const {
  const auto in = [&](const std::string& mount) { return mount.empty() ? "" : mount + path; };
  const std::string unified = in(unified_mount_);
  ResourceUsage usage;
  CTR_ASSIGN_OR_RETURN(usage.cpu_time, CpuTime(path));

  const bool v1 = !memory_mount_.empty();
  const std::string memory = v1 ? in(memory_mount_) : unified;
  CTR_ASSIGN_OR_RETURN(std::optional<int64_t> bytes,
                       ReadNumber(memory + (v1 ? "/memory.usage_in_bytes" : "/memory.current")));
  // The page cache that the kernel takes back before anything else is in nobody's way; what counts
  // against the limit beyond it is the working set, as others show it.
  CTR_ASSIGN_OR_RETURN(int64_t inactive, ReadField(memory + "/memory.stat",
                                                   v1 ? "total_inactive_file" : "inactive_file"));
  usage.memory_bytes = std::max<int64_t>(bytes.value_or(0) - inactive, 0);
  CTR_ASSIGN_OR_RETURN(usage.memory_limit_bytes,
                       ReadNumber(memory + (v1 ? "/memory.limit_in_bytes" : "/memory.max")));
  if (usage.memory_limit_bytes.value_or(0) >= kNoLimit) usage.memory_limit_bytes.reset();

  const std::string pids = pids_mount_.empty() ? unified : in(pids_mount_);
  CTR_ASSIGN_OR_RETURN(std::optional<int64_t> processes, ReadNumber(pids + "/pids.current"));
  usage.processes = processes.value_or(0);
  // There is none where processes have no limit.
  usage.refused_processes = ReadField(pids + "/pids.events", "max").value_or(0);
  usage.oom_kills = OomKills(path);

  if (!unified.empty()) {
    usage.cpu_pressure_full = ReadPressure(unified + "/cpu.pressure", "full");
    usage.memory_pressure_some = ReadPressure(unified + "/memory.pressure", "some");
    usage.memory_pressure_full = ReadPressure(unified + "/memory.pressure", "full");
  }
  return usage;
}

}  // namespace ctr
