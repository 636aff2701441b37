// Descriptors that run out: the reserve, and what may use it. In a process of its own, as they are
// the process's.
#include "agent/base/descriptors.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "agent/base/asio.h"
#include "agent/base/fd.h"

namespace ctr {
namespace {

// UBSan reads memory by way of a pipe, and takes its failure for a bug of ours.
#if __has_feature(address_sanitizer)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

int OpenNull() { return ::open("/dev/null", O_RDONLY | O_CLOEXEC); }

// Exit status of `body` in a child; 0 is success.
int InChild(int (*body)()) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body());
  int status = -1;
  REQUIRE(::waitpid(child, &status, 0) == child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 100;
}

bool SetLimit(rlim_t limit) {
  const rlimit limits = {limit, 4096};
  return ::setrlimit(RLIMIT_NOFILE, &limits) == 0;
}

// Reserves some, and takes all others.
std::vector<UniqueFd> UseUp() {
  ReserveDescriptors();
  std::vector<UniqueFd> taken;
  if (!SetLimit(256)) ::_exit(1);
  for (int fd = OpenNull(); fd >= 0; fd = OpenNull()) taken.emplace_back(fd);
  return taken;
}

int UseUpAndRecover() {
  std::vector<UniqueFd> taken = UseUp();
  if (DescriptorsAreScarce()) return 2;
  UniqueFd first(OpenDescriptor(OpenNull));  // from the reserve
  if (!first.valid() || !DescriptorsAreScarce() || !MayTakeDescriptor()) return 3;
  std::vector<UniqueFd> clients;
  while (MayTakeDescriptor()) clients.emplace_back(OpenNull());
  if (clients.empty()) return 4;
  // The rest is control's.
  for (int i = 0; i < 31; ++i) {
    taken.emplace_back(OpenDescriptor(OpenNull));
    if (!taken.back().valid()) return 5;
  }
  while (OpenDescriptor(OpenNull) >= 0) {
  }
  if (errno != EMFILE) return 6;
  // With room again the reserve is filled, and clients are served.
  if (!SetLimit(4096)) return 7;
  asio::io_context io;
  asio::co_spawn(io, WatchDescriptors(), asio::detached);
  io.run_for(std::chrono::milliseconds(100));
  return DescriptorsAreScarce() ? 8 : 0;
}

TEST_CASE("out of descriptors, control still opens some, and clients leave them to it" *
          doctest::skip(kSanitized)) {
  CHECK(InChild(UseUpAndRecover) == 0);
}

int TwoLookAtOnce() {
  std::vector<UniqueFd> taken = UseUp();
  ReleaseDescriptors();
  for (int i = 0; i < 30; ++i) taken.emplace_back(OpenNull());  // of 64: enough is left for one
  std::atomic<bool> refused = false;
  auto look = [&refused] {
    for (int i = 0; i < 1000; ++i) {
      if (!MayTakeDescriptor()) refused = true;
    }
  };
  std::thread other(look);
  look();
  other.join();
  return refused ? 2 : 0;
}

TEST_CASE("two that look at once whether there are descriptors do not take them from each other" *
          doctest::skip(kSanitized)) {
  CHECK(InChild(TwoLookAtOnce) == 0);
}

int WatchFindsThemShort() {
  asio::io_context io;
  asio::steady_timer reactor(io);  // takes its own descriptors now
  const std::vector<UniqueFd> taken = UseUp();
  asio::co_spawn(io, WatchDescriptors(), asio::detached);
  io.run_for(std::chrono::milliseconds(100));
  if (!DescriptorsAreScarce()) return 2;
  return UniqueFd(OpenNull()).valid() ? 0 : 3;
}

TEST_CASE("what opens files by itself finds descriptors soon after they ran out" *
          doctest::skip(kSanitized)) {
  CHECK(InChild(WatchFindsThemShort) == 0);
}

}  // namespace
}  // namespace ctr
