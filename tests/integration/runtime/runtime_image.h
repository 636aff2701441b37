#pragma once

#include <string>

namespace ctr {

// Writes a Docker archive with one image, "busybox:test", to `path`: Debian's static busybox with
// its applets as symlinks, users, and a file that nobody may run.
void WriteBusyboxArchive(const std::string& path);

inline constexpr char kBusyboxImage[] = "docker.io/library/busybox:test";

}  // namespace ctr
