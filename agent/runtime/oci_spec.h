#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/error.h"
#include "agent/model/class_config.h"

namespace ctr {

// What an image says about the process that it is made for (the `config` of an OCI image
// configuration).
struct ImageConfig {
  std::vector<std::string> entrypoint;
  std::vector<std::string> cmd;
  std::vector<std::string> env;  // "K=V"
  std::string user;              // "", "1000", "app", "app:web", "1000:1000" …
  std::string working_dir;
  std::string stop_signal;                 // "SIGTERM", "15"; "" for none
  std::vector<std::string> exposed_ports;  // "8080/tcp"
  std::vector<std::string> volumes;        // paths
};

// Whom the process runs as, by number.
struct ProcessUser {
  uint32_t uid = 0;
  uint32_t gid = 0;
  std::vector<uint32_t> additional_gids;

  bool operator==(const ProcessUser&) const = default;
};

// What the spec takes from the machine; found out once.
struct OciHost {
  std::string seccomp;                    // `linux.seccomp` for DefaultCapabilities(), as JSON text
  std::string kernel;                     // its release, "6.1.0-13-amd64"
  std::vector<std::string> masked_paths;  // beyond the constant ones: the CPUs' thermal_throttle
  std::vector<std::string> capabilities;  // that we have, and so can give
  bool cgroup_v1 = false;                 // its hierarchies, or hybrid; else v2 alone
  bool swap_limit = false;                // cgroups can limit swap, too
  bool recursive_read_only = false;       // mounts below a mount can be made read-only with it
  uint64_t nofile_hard = 1024;            // our own hard limit of open files
  bool has_apparmor = false;              // the kernel asks AppArmor
  std::string apparmor;                   // the profile of an instance; "": none
  std::vector<std::string> warnings;      // what it can't give, a sentence each
};

// Everything that differs from one container to the next.
struct OciSpecInput {
  ImageConfig image;
  ProcessUser user;
  std::optional<std::vector<std::string>> entrypoint;  // replaces the image's and its cmd
  std::optional<std::vector<std::string>> command;     // replaces the image's cmd alone
  std::map<std::string, std::string> env;              // over the image's
  std::string hostname;
  std::string cgroups_path;  // "/ctr/<agent id>/<container id>"
  Resources resources;
  int nofile = 1024;  // soft limit, capped by OciHost::nofile_hard
  bool read_only = false;
  std::optional<std::string> workdir;  // over the image's
  // No path where something is mounted has a link in it.
  std::vector<Volume> volumes;
  std::vector<std::string> image_volumes;  // folders of the root file system
  Security security;
  std::string etc_folder;  // on the host, with an instance's EtcFiles; "": the image's own files
  // Where those that are wanted are seen.
  std::map<std::string, std::string> etc_paths = {
      {"hosts", "/etc/hosts"}, {"hostname", "/etc/hostname"}, {"resolv.conf", "/etc/resolv.conf"}};
  std::string network_namespace;  // the path of one to join; "" for a new one
  std::string resolv_conf;        // a file on the host, in place of etc_folder's; "" for none
  std::map<std::string, std::string> annotations;
};

// Looks at this machine: kernel, architecture, cgroups, limits. A broken seccomp profile is a bug.
// `root`: where cgroups' /sys and /proc are.
OciHost DetectOciHost(const std::string& root = "/");

// The OCI runtime spec (config.json) as Docker would write it, as JSON text, for a root file system
// at "rootfs". FAILED_PRECONDITION if neither the input nor the image names a program, if an
// argument or a variable can't be passed to a process (NUL), or if this machine can't give what
// `security` asks for.
StatusOr<std::string> BuildOciSpec(const OciSpecInput& input, const OciHost& host);

// Where something is mounted by that spec.
struct ContainerMounts {
  std::vector<std::string> own;      // what every container has, but for what a volume replaces
  std::vector<std::string> wanted;   // volumes, and files of /etc
  std::vector<std::string> covered;  // paths of /proc and /sys, masked or made read-only
};
ContainerMounts MountsOf(const OciSpecInput& input, const OciHost& host);

}  // namespace ctr
