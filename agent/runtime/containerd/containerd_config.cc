#include "agent/runtime/containerd/containerd_config.h"

#include <sys/un.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace ctr {
namespace {

std::string Quoted(const std::string& text) {
  return absl::StrCat("\"", absl::StrReplaceAll(text, {{"\\", "\\\\"}, {"\"", "\\\""}}), "\"");
}

// containerd listens for its shims on SOCKET.ttrpc.
constexpr char kTtrpcSuffix[] = ".ttrpc";

}  // namespace

ContainerdPaths::ContainerdPaths(const std::string& data_dir, const std::string& run_dir)
    : data(data_dir + "/containerd"),
      root(data + "/root"),
      config_file(data + "/config.toml"),
      pid_file(data + "/containerd.pid"),
      log_file(data + "/containerd.log"),
      run(run_dir + "/containerd"),
      state(run + "/state"),
      socket(run + "/containerd.sock"),
      runc_root(run + "/runc") {}

Status CheckSocketPath(const std::string& path) {
  constexpr size_t kMaxLength = sizeof(sockaddr_un::sun_path) - 1;
  if (path.size() <= kMaxLength) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("the socket path ", path, " has ", path.size(),
                                                    " bytes, and a Unix socket takes at most ",
                                                    kMaxLength, ": choose a shorter --run-dir"));
}

std::string ContainerdConfig(const ContainerdPaths& paths) {
  return absl::StrCat("# Written by ctr-agent at each start.\n", "version = 2\n",
                      "root = ", Quoted(paths.root), "\n", "state = ", Quoted(paths.state), "\n",
                      // All instances' shims hang on it; they get one more, and what they run
                      // what its spec says.
                      R"(oom_score = -999
required_plugins = ["io.containerd.snapshotter.v1.overlayfs", "io.containerd.grpc.v1.tasks"]
disabled_plugins = [
  "io.containerd.grpc.v1.cri",
  "io.containerd.internal.v1.opt",
  "io.containerd.internal.v1.restart",
  "io.containerd.internal.v1.tracing",
  "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]

[grpc]
  address = )",
                      Quoted(paths.socket), R"(
  max_recv_message_size = 67108864
  max_send_message_size = 67108864

[ttrpc]
  address = )",
                      Quoted(paths.socket + kTtrpcSuffix), R"(

[debug]
  level = "warn"
)");
}

}  // namespace ctr
