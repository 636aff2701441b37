#include "agent/base/descriptors.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <mutex>

#include "agent/base/fd.h"
#include "agent/base/time.h"
#include "spdlog/spdlog.h"

namespace ctr {
namespace {

constexpr int kReserved = 64;
constexpr int kControlsShare = 32;  // of them, when they are in use
constexpr int kLow = 4;             // fewer free ones than this are too few
constexpr Duration kWatchInterval = std::chrono::milliseconds(500);

// The descriptor table is the process's, and so are these. -1: not held.
std::array<std::atomic<int>, kReserved>& Reserve() {
  static auto& reserve = *new std::array<std::atomic<int>, kReserved>;
  return reserve;
}
std::atomic<bool> reserve_in_use{false};

UniqueFd TakeOne() { return UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC)); }

// Whether as many could be opened now. One after the other: two that look at once would find what
// the other has taken missing, and leave control none meanwhile.
bool AreFree(int count) {
  static std::mutex& looking = *new std::mutex;
  const std::lock_guard<std::mutex> lock(looking);
  std::array<UniqueFd, 2 * kReserved> taken;
  for (int i = 0; i < count; ++i) {
    taken[static_cast<size_t>(i)] = TakeOne();
    if (!taken[static_cast<size_t>(i)].valid()) return false;
  }
  return true;
}

void Fill() {
  for (std::atomic<int>& held : Reserve()) held = TakeOne().Release();
}

}  // namespace

void ReserveDescriptors() {
  rlimit limit;
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
  }
  Fill();
}

bool ReleaseDescriptors() {
  if (reserve_in_use.exchange(true)) return false;
  spdlog::warn(
      "file descriptors run out: new clients are turned away until some are free again; "
      "raise the limit (LimitNOFILE=, ulimit -n)");
  for (std::atomic<int>& held : Reserve()) {
    const int fd = held.exchange(-1);
    if (fd >= 0) ::close(fd);
  }
  return true;
}

UniqueFd CopyDescriptor(int fd) {
  return UniqueFd(OpenDescriptor([fd] { return ::fcntl(fd, F_DUPFD_CLOEXEC, 3); }));
}

bool DescriptorsAreScarce() { return reserve_in_use.load(std::memory_order_relaxed); }

bool MayTakeDescriptor() { return !DescriptorsAreScarce() || AreFree(kControlsShare); }

awaitable<void> WatchDescriptors() {
  asio::steady_timer timer(co_await asio::this_coro::executor);
  for (;;) {
    if (!reserve_in_use) {
      if (!AreFree(kLow)) ReleaseDescriptors();
    } else if (AreFree(kReserved + kControlsShare)) {
      Fill();
      reserve_in_use = false;
      spdlog::info("there are file descriptors again; new clients are served");
    }
    timer.expires_after(kWatchInterval);
    co_await timer.async_wait(use_awaitable);
  }
}

}  // namespace ctr
