// What the containerd runtime reads and writes as text.
#include <doctest/doctest.h>

#include "absl/strings/match.h"
#include "agent/runtime/containerd/cgroup.h"
#include "agent/runtime/containerd/containerd_config.h"
#include "agent/runtime/containerd/errors.h"

namespace ctr {
namespace {

TEST_CASE("containerd's errors lose what each layer adds to the one below") {
  CHECK(CleanContainerdMessage(
            "failed to create shim task: OCI runtime create failed: runc create failed: unable "
            "to start container process: exec: \"/bin/nope\": stat /bin/nope: no such file or "
            "directory: unknown") ==
        "exec: \"/bin/nope\": stat /bin/nope: no such file or directory");
  CHECK(CleanContainerdMessage("container \"x\": not found") == "container \"x\"");
  CHECK(CleanContainerdMessage("one\nand two\n: unknown") == "one and two");
  CHECK(CleanContainerdMessage("") == "");
}

TEST_CASE("an entrypoint that can't be run is named, with what to do") {
  auto error = [](const char* message) {
    return StartError(absl::UnknownError(message), {.image = "docker.io/library/demo:latest"});
  };
  Status missing = error(
      "OCI runtime create failed: runc create failed: unable to start container process: exec: "
      "\"nope\": executable file not found in $PATH: unknown");
  CHECK(absl::IsFailedPrecondition(missing));
  CHECK(ErrorCodeOf(missing) == code::kStartFailed);
  CHECK(absl::StartsWith(missing.message(),
                         "program \"nope\" not found in the image docker.io/library/demo:latest"));
  CHECK(absl::StrContains(error("exec: \"/a\": permission denied: unknown").message(),
                          "program \"/a\" is not executable"));
  CHECK(error("failed to create shim task: OCI runtime create failed: runc create failed: no space "
              "left: unknown")
            .message() == "cannot start the container: no space left");
  CHECK(absl::StrContains(
      error("OCI runtime create failed: runc create failed: unable to start container process: "
            "error during container init: unable to apply apparmor profile: apparmor failed to "
            "apply profile: write /proc/self/attr/apparmor/exec: no such file or directory")
          .message(),
      "the AppArmor profile that the class names is not loaded"));
}

TEST_CASE(
    "a program that a kept disk of an older image lacks is not said to be missing in the new") {
  const std::string missing(
      StartError(absl::UnknownError("exec: \"/bin/new\": stat /bin/new: no such file or directory"),
                 {.image = "docker.io/library/app:1", .old_disk = "web/alice"})
          .message());
  CHECK(
      absl::StartsWith(missing,
                       "program \"/bin/new\" not found in the kept disk of web/alice, whose files "
                       "are of an earlier image than docker.io/library/app:1 is now"));
  CHECK(absl::EndsWith(missing, "without what was written: ctr destroy web/alice"));
}

TEST_CASE("cgroup hierarchies are found in version 1, version 2 and both") {
  constexpr char kBoth[] =
      "30 24 0:26 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
      "31 30 0:27 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
      "32 30 0:28 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n"
      "33 30 0:29 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
  CHECK(Cgroups::FromMountinfo(kBoth).mount_points() ==
        std::vector<std::string>{"/sys/fs/cgroup/cpu", "/sys/fs/cgroup/memory",
                                 "/sys/fs/cgroup/unified"});
  CHECK(Cgroups::FromMountinfo(
            "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n")
            .mount_points() == std::vector<std::string>{"/sys/fs/cgroup"});
  CHECK(Cgroups::FromMountinfo("").mount_points().empty());
}

TEST_CASE("containerd's configuration quotes its paths") {
  std::string text = ContainerdConfig(ContainerdPaths("/a \"b\"", "/run\\c"));
  CHECK(absl::StrContains(text, R"(root = "/a \"b\"/containerd/root")"));
  CHECK(absl::StrContains(text, R"(address = "/run\\c/containerd/containerd.sock")"));
}

}  // namespace
}  // namespace ctr
