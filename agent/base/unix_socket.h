#pragma once

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <string>

#include "agent/base/error.h"
#include "agent/base/fd.h"

namespace ctr {

// INVALID_ARGUMENT if `path` is too long for one.
StatusOr<sockaddr_un> UnixAddress(const std::string& path);

// A socket of that type (SOCK_STREAM …), close-on-exec and non-blocking, bound to `path` in place
// of whatever is there. `mask`: what the file's mode is without, from its first moment. It does not
// listen yet.
StatusOr<UniqueFd> BindUnixSocket(const std::string& path, int type, mode_t mask);

// Who is at the other end of a connected one, or began to listen on it.
StatusOr<ucred> UnixPeerOf(int fd);

}  // namespace ctr
