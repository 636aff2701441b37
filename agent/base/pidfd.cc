#include "agent/base/pidfd.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>

#include <cerrno>

// glibc 2.36 forgot that C++ includes it, too.
extern "C" {
#include <sys/pidfd.h>
}

#include "absl/strings/str_cat.h"
#include "agent/base/descriptors.h"

namespace ctr {

StatusOr<Pidfd> Pidfd::Open(int pid) {
  UniqueFd fd(OpenDescriptor([pid] { return ::pidfd_open(pid, 0); }));
  if (fd.valid()) return Pidfd(pid, std::move(fd));
  if (errno == ESRCH) return absl::NotFoundError(absl::StrCat("no process ", pid));
  return ErrnoError(errno, absl::StrCat("pidfd_open of process ", pid));
}

bool Pidfd::HasExited() const {
  pollfd poll = {.fd = fd_.get(), .events = POLLIN, .revents = 0};
  return ::poll(&poll, 1, 0) > 0;
}

Status Pidfd::Signal(int signal) const {
  // A zombie takes signals in silence.
  if (HasExited()) return absl::NotFoundError(absl::StrCat("process ", pid_, " has exited"));
  if (::pidfd_send_signal(fd_.get(), signal, nullptr, 0) == 0) return absl::OkStatus();
  if (errno == ESRCH) return absl::NotFoundError(absl::StrCat("process ", pid_, " has exited"));
  return ErrnoError(errno, absl::StrCat("signal ", signal, " to process ", pid_));
}

awaitable<void> Pidfd::WaitExit() const {
  asio::posix::stream_descriptor descriptor(co_await asio::this_coro::executor);
  const int duplicate = OpenDescriptor([this] { return ::fcntl(fd_.get(), F_DUPFD_CLOEXEC, 0); });
  if (duplicate < 0) throw boost::system::system_error(errno, boost::system::system_category());
  descriptor.assign(duplicate);
  co_await descriptor.async_wait(asio::posix::stream_descriptor::wait_read, use_awaitable);
}

}  // namespace ctr
