#include "cli/signal_relay.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>

#include <utility>

namespace ctr::cli {
namespace {

sigset_t Relayed() {
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, SIGINT);
  ::sigaddset(&set, SIGTERM);
  return set;
}

}  // namespace

SignalRelay::SignalRelay(std::function<void(int)> handle) : handle_(std::move(handle)) {
  const sigset_t set = Relayed();
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  signals_ = UniqueFd(::signalfd(-1, &set, SFD_CLOEXEC));
  stop_ = UniqueFd(::eventfd(0, EFD_CLOEXEC));
  thread_ = std::thread([this] { Run(); });
}

SignalRelay::~SignalRelay() {
  const uint64_t one = 1;
  (void)!::write(stop_.get(), &one, sizeof one);
  thread_.join();
  const sigset_t set = Relayed();
  ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

void SignalRelay::Run() {
  pollfd waited[] = {{signals_.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}};
  while (waited[1].revents == 0) {
    if (::poll(waited, 2, -1) < 0 || (waited[0].revents & POLLIN) == 0) continue;
    signalfd_siginfo info;
    if (::read(signals_.get(), &info, sizeof info) == sizeof info) {
      handle_(static_cast<int>(info.ssi_signo));
    }
  }
}

}  // namespace ctr::cli
