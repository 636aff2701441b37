#include "agent/runtime/containerd/mount_points.h"

#include <doctest/doctest.h>

#include "absl/strings/match.h"

namespace ctr {

TEST_CASE("a mount that landed elsewhere is found, whatever its path's characters") {
  const std::string mountinfo =
      "626 540 0:53 / / rw,relatime - overlay overlay rw\n"
      "627 626 0:56 / /proc rw,nosuid - proc proc rw\n"
      "628 626 0:57 / /a\\040b rw,nosuid shared:1 - tmpfs tmpfs rw\n";
  CHECK(CheckMountPoints(mountinfo, {"/proc", "/a b"}).ok());
  const Status elsewhere = CheckMountPoints(mountinfo, {"/proc", "/a"});
  CHECK(elsewhere.code() == absl::StatusCode::kFailedPrecondition);
  CHECK(absl::StartsWith(elsewhere.message(), "/a can't be made"));
  CHECK(!CheckMountPoints("", {"/proc"}).ok());
}

}  // namespace ctr
