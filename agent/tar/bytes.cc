#include "agent/tar/bytes.h"

#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace ctr::tar {
namespace {

constexpr size_t kShownBytes = 300;

// Waits until `fd` is ready. Without a watched process read and write wait themselves.
Status Await(int fd, int watched, short events) {
  if (watched < 0) return absl::OkStatus();
  std::array<pollfd, 2> polls = {{{fd, events, 0}, {watched, POLLIN, 0}}};
  while (::poll(polls.data(), polls.size(), -1) < 0) {
    if (errno != EINTR) return ErrnoError(errno, "cannot wait for the archive");
  }
  if (polls[1].revents != 0) return absl::AbortedError("the instance stopped during the copy");
  return absl::OkStatus();
}

}  // namespace

StatusOr<size_t> FdSource::Read(char* buffer, size_t size) {
  for (;;) {
    CTR_RETURN_IF_ERROR(Await(fd_, watched_, POLLIN));
    const ssize_t count = ::read(fd_, buffer, size);
    if (count >= 0) return static_cast<size_t>(count);
    if (errno != EINTR) return ErrnoError(errno, "cannot read the archive");
  }
}

Status FdSink::Write(std::string_view bytes) {
  while (!bytes.empty()) {
    CTR_RETURN_IF_ERROR(Await(fd_, watched_, POLLOUT));
    const ssize_t count = ::write(fd_, bytes.data(), bytes.size());
    if (count >= 0) {
      bytes.remove_prefix(static_cast<size_t>(count));
    } else if (errno != EINTR) {
      return ErrnoError(errno, "cannot write the archive");
    }
  }
  return absl::OkStatus();
}

std::string Shown(std::string_view path) {
  const std::string_view part = path.substr(0, kShownBytes);
  return absl::StrCat(absl::Utf8SafeCEscape(absl::string_view(part.data(), part.size())),
                      part.size() < path.size() ? "..." : "");
}

}  // namespace ctr::tar
