#include "cli/signal_relay.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>

#include <utility>

namespace ctr::cli {
namespace {

bool IsIgnored(int signal) {
  struct sigaction action = {};
  return ::sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

sigset_t SetOf(std::initializer_list<int> signals) {
  sigset_t set;
  ::sigemptyset(&set);
  for (int signal : signals) {
    if (signal != SIGHUP || !IsIgnored(signal)) ::sigaddset(&set, signal);
  }
  return set;
}

}  // namespace

SignalRelay::SignalRelay(std::initializer_list<int> signals, std::function<void(int)> handle)
    : set_(SetOf(signals)), handle_(std::move(handle)) {
  ::pthread_sigmask(SIG_BLOCK, &set_, nullptr);
  signals_ = UniqueFd(::signalfd(-1, &set_, SFD_CLOEXEC));
  stop_ = UniqueFd(::eventfd(0, EFD_CLOEXEC));
  thread_ = std::thread([this] { Run(); });
}

SignalRelay::~SignalRelay() {
  const uint64_t one = 1;
  (void)!::write(stop_.get(), &one, sizeof one);
  thread_.join();
  ::pthread_sigmask(SIG_UNBLOCK, &set_, nullptr);
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
