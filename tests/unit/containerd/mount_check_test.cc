#include "agent/runtime/containerd/mount_check.h"

#include <doctest/doctest.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace ctr {
namespace {

// A line of mountinfo: of what is mounted at `path`, and of which type.
std::string Line(const std::string& path, const std::string& type) {
  return absl::StrCat("627 626 0:56 / ", path, " rw,nosuid shared:1 - ", type, " x rw\n");
}

const std::string& UsualLines() {
  static const auto& lines = *new std::string(
      "626 540 0:53 / / rw,relatime - overlay overlay rw\n" + Line("/proc", "proc") +
      Line("/dev", "tmpfs") + Line("/sys", "sysfs") + Line("/sys/fs/cgroup", "tmpfs") +
      Line("/sys/fs/cgroup", "tmpfs") + Line("/sys/fs/cgroup/memory", "cgroup") +
      Line("/proc/fs", "proc") + Line("/proc/fs", "tmpfs") + Line("/proc/keys", "tmpfs") +
      Line("/a\\040b", "ext4"));
  return lines;
}

Status Check(const std::string& more, std::vector<std::string> wanted = {"/a b"}) {
  return CheckMountPoints(UsualLines() + more,
                          {.own = {"/proc", "/dev", "/sys", "/sys/fs/cgroup"},
                           .wanted = std::move(wanted),
                           .covered = {"/proc/keys", "/proc/fs", "/sys/kernel/slab"}});
}

}  // namespace

TEST_CASE("a volume that landed elsewhere is found, whatever its path's characters") {
  CHECK(Check("").ok());
  const Status elsewhere = Check("", {"/a b", "/a"});
  CHECK(elsewhere.code() == absl::StatusCode::kFailedPrecondition);
  CHECK(absl::StartsWith(elsewhere.message(), "/a can't be made"));
}

TEST_CASE("what landed over an instance's own file systems is found, also if masks look like it") {
  CHECK(!Check(Line("/dev", "ext4")).ok());
  CHECK(!Check(Line("/dev", "tmpfs") + Line("/a/c", "tmpfs"), {"/a/c"}).ok());
  CHECK(!Check(Line("/proc/1/attr", "ext4")).ok());
  CHECK(!Check(Line("/sys/kernel", "tmpfs")).ok());
  CHECK(!Check(Line("/proc/keys", "ext4")).ok());
  CHECK(Check(Line("/sys/kernel/slab", "tmpfs")).ok());
  CHECK(Check(Line("/dev/log", "ext4"), {"/dev/log"}).ok());
}

TEST_CASE("a container without its own file systems is none of ours") {
  CHECK(!CheckMountPoints("", {.own = {"/proc"}, .wanted = {}, .covered = {}}).ok());
}

}  // namespace ctr
