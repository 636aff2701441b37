#include "agent/proxy/range_lock.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"

namespace ctr {
namespace {

constexpr std::string_view kPrefix = "ctr-agent/range/";

Status InUse(const Ipv4Range& range, const std::string& other) {
  return Error(absl::StatusCode::kAlreadyExists, code::kInUse,
               absl::StrCat("another ctr-agent serves ", other, " here",
                            other == range.ToString() ? "" : ", which overlaps " + range.ToString(),
                            "; stop it, or give this one other ranges with --instance-range and "
                            "--class-range"));
}

// The abstract names of this network namespace are listed with an '@' for their first byte.
Status CheckOverlaps(const Ipv4Range& range) {
  std::ifstream sockets("/proc/thread-self/net/unix");
  for (std::string line; std::getline(sockets, line);) {
    const size_t name = line.find(absl::StrCat("@", std::string(kPrefix)));
    if (name == std::string::npos) continue;
    const std::string text = line.substr(name + 1 + kPrefix.size());
    StatusOr<Ipv4Range> other = ParseIpv4Range(text);
    if (other.ok() && text != range.ToString() && other->Overlaps(range)) {
      return InUse(range, text);
    }
  }
  return absl::OkStatus();
}

}  // namespace

StatusOr<UniqueFd> LockRange(const Ipv4Range& range) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return ErrnoError(errno, "socket");
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  const std::string name = absl::StrCat(std::string(kPrefix), range.ToString());
  std::memcpy(address.sun_path + 1, name.data(), name.size());
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0) {
    if (errno == EADDRINUSE) return InUse(range, range.ToString());
    return ErrnoError(errno, absl::StrCat("cannot claim ", range.ToString()));
  }
  CTR_RETURN_IF_ERROR(CheckOverlaps(range));
  return fd;
}

}  // namespace ctr
