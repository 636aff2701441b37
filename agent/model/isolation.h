#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/error.h"

namespace ctr {

struct ClassConfig;

// What is mounted into an instance beside its root file system: a file or folder of the host, or
// memory.
struct Volume {
  std::string path;        // in the instance; absolute, without "." and ".."
  std::string host;        // absolute, and there when an instance starts; "": a tmpfs
  bool read_only = false;  // of a host's
  int64_t size_bytes = 0;  // of a tmpfs

  bool operator==(const Volume&) const = default;
};

// Whether an absolute path is in that folder, or the folder itself.
bool IsBelow(const std::string& path, const std::string& folder);

// Why nothing of a class is mounted at `path`, which is absolute and has no links in it; "" if it
// may be. A part of a sentence: "the kernel's own files are there".
std::string WhyNoVolume(const std::string& path);

// What a class has changed of an instance's default isolation.
struct Security {
  std::vector<std::string> cap_add;   // "CAP_NET_RAW" …, or "ALL"
  std::vector<std::string> cap_drop;  // likewise
  bool seccomp = true;                // Docker's default profile
  bool masked_paths = true;           // of /proc and /sys, and read-only ones
  bool no_new_privileges = true;      // setuid programs and file capabilities give none
  std::string apparmor;               // "": the agent's own profile; "unconfined"; a loaded one

  bool operator==(const Security&) const = default;
};

inline constexpr char kAllCapabilities[] = "ALL";

// Every capability that Linux has, in the kernel's order: the index is its number.
const std::vector<std::string>& KnownCapabilities();

// What a container gets by default: Docker's, less NET_RAW, MKNOD and AUDIT_WRITE.
const std::vector<std::string>& DefaultCapabilities();

// "net_raw" or "CAP_NET_RAW" as "CAP_NET_RAW", "all" as "ALL". INVALID_ARGUMENT for what is none.
StatusOr<std::string> ParseCapability(std::string_view text);

// The bounding set of a container, in the kernel's order. As Docker reads it: with ALL added it is
// `available`, less what is dropped; with ALL dropped it is what is added; else the default, less
// what is dropped, with what is added.
std::vector<std::string> CapabilitiesOf(const Security& security,
                                        const std::vector<std::string>& available);

// What makes a class's instances less isolated than the default, in words, one each; empty if
// nothing does.
std::vector<std::string> Loosened(const ClassConfig& config);

}  // namespace ctr
