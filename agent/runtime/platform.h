#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "agent/base/error.h"

namespace ctr {

// What images and profiles call this machine.
struct Platform {
  std::string architecture;          // as OCI and Go name it: "amd64", "arm64"
  std::string variant;               // "v7" of arm; else ""
  std::string seccomp_architecture;  // "SCMP_ARCH_X86_64"; "" if it has none known to us
};

const Platform& HostPlatform();

// "linux/arm64", "linux/arm/v7", with docker's other names for architectures. INVALID_ARGUMENT for
// anything else, as for an operating system other than linux.
StatusOr<Platform> ParsePlatform(std::string_view text);
// "linux/arm/v7".
std::string PlatformName(const Platform& platform);

// How well what is for that system suits `platform`: the higher the better; nothing if it does not
// run there.
std::optional<int> Suits(const Platform& platform, std::string_view os,
                         std::string_view architecture, std::string_view variant);

// Somebody else's word, for a message: 80 characters of it at most, and "?" for what is no
// printable ASCII.
std::string OnlyPrintable(std::string text);

}  // namespace ctr
