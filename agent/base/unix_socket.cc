#include "agent/base/unix_socket.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace ctr {

StatusOr<sockaddr_un> UnixAddress(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is too long for a socket"));
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

StatusOr<UniqueFd> BindUnixSocket(const std::string& path, int type, mode_t mask) {
  CTR_ASSIGN_OR_RETURN(const sockaddr_un address, UnixAddress(path));
  ::unlink(path.c_str());
  UniqueFd fd(::socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return ErrnoError(errno, "socket");
  const mode_t before = ::umask(mask);  // never open to others, not for a moment
  const int bound = ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  const int bind_errno = errno;
  ::umask(before);
  if (bound != 0) return ErrnoError(bind_errno, absl::StrCat("cannot listen on ", path));
  return fd;
}

StatusOr<ucred> UnixPeerOf(int fd) {
  ucred peer = {};
  socklen_t size = sizeof peer;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) {
    return ErrnoError(errno, "SO_PEERCRED");
  }
  return peer;
}

}  // namespace ctr
