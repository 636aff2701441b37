#include "agent/tar/open.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>

#include "absl/strings/str_cat.h"

namespace ctr::tar {
namespace {

UniqueFd OpenAt2(int directory, const std::string& path, uint64_t flags, uint64_t resolve) {
  open_how how = {.flags = flags | O_CLOEXEC, .mode = 0, .resolve = resolve};
  for (;;) {
    const long fd = ::syscall(SYS_openat2, directory, path.c_str(), &how, sizeof(how));
    // EAGAIN: somebody renamed meanwhile.
    if (fd >= 0 || (errno != EINTR && errno != EAGAIN)) return UniqueFd(static_cast<int>(fd));
  }
}

}  // namespace

UniqueFd OpenPath(const std::string& path, uint64_t flags) {
  return OpenAt2(AT_FDCWD, path, flags, RESOLVE_NO_MAGICLINKS);
}

UniqueFd OpenBelow(int directory, const std::string& path, uint64_t flags) {
  return OpenAt2(directory, path, flags, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
}

StatusOr<OwnDescriptors> OwnDescriptors::Open() {
  UniqueFd folder(::open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!folder.valid()) return ErrnoError(errno, "cannot open /proc/self/fd");
  return OwnDescriptors(std::move(folder));
}

UniqueFd OwnDescriptors::Reopen(int fd, int flags) const {
  return UniqueFd(::openat(folder_.get(), absl::StrCat(fd).c_str(), flags | O_CLOEXEC));
}

StatusOr<std::string> OwnDescriptors::PathOf(int fd) const {
  std::array<char, PATH_MAX> path;
  const ssize_t size =
      ::readlinkat(folder_.get(), absl::StrCat(fd).c_str(), path.data(), path.size());
  if (size < 0) return ErrnoError(errno, "cannot see where an open file is");
  return std::string(path.data(), static_cast<size_t>(size));
}

SplitPath Split(const std::string& path) {
  SplitPath split;
  std::string_view rest = path;
  while (rest.ends_with('/')) {
    rest.remove_suffix(1);
    split.wants_directory = true;
  }
  const size_t slash = rest.rfind('/');
  std::string_view name = slash == std::string_view::npos ? rest : rest.substr(slash + 1);
  if (name.empty() || name == "." || name == "..") {
    split.parent = path;
    split.wants_directory = true;
    return split;
  }
  split.name = name;
  split.parent = slash == std::string_view::npos ? "." : std::string(rest.substr(0, slash + 1));
  return split;
}

}  // namespace ctr::tar
