#include "cli/full_screen.h"

#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>

namespace ctr::cli {
namespace {

sigset_t Trapped() {
  sigset_t set;
  ::sigemptyset(&set);
  for (int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGWINCH})
    ::sigaddset(&set, signal);
  return set;
}

}  // namespace

SignalTrap::SignalTrap() {
  const sigset_t trapped = Trapped();
  ::pthread_sigmask(SIG_BLOCK, &trapped, &before_);
  fd_ = UniqueFd(::signalfd(-1, &trapped, SFD_CLOEXEC | SFD_NONBLOCK));
}

SignalTrap::~SignalTrap() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

int SignalTrap::Take() const {
  signalfd_siginfo info;
  return ::read(fd_.get(), &info, sizeof(info)) == sizeof(info) ? static_cast<int>(info.ssi_signo)
                                                                : 0;
}

FullScreen::FullScreen(int input, std::ostream& out, const SignalTrap& signals)
    : input_(input),
      out_(out),
      signals_(signals),
      is_terminal_(::isatty(input) == 1 && ::tcgetattr(input, &before_) == 0),
      has_keys_(is_terminal_) {
  Enter();
}

FullScreen::~FullScreen() { Leave(); }

void FullScreen::Enter() {
  if (is_terminal_) {
    termios raw = before_;
    // Signals stay: Ctrl-C comes as one.
    raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
    ::tcsetattr(input_, TCSADRAIN, &raw);
  }
  out_ << "\x1b[?1049h\x1b[?25l" << std::flush;
}

void FullScreen::Leave() {
  out_ << "\x1b[?25h\x1b[?1049l" << std::flush;
  if (is_terminal_) ::tcsetattr(input_, TCSADRAIN, &before_);
}

ScreenSize FullScreen::size() const {
  winsize window = {};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) != 0 || window.ws_col == 0) return {};
  return {.columns = window.ws_col, .rows = window.ws_row};
}

void FullScreen::Draw(const std::string& text) {
  std::string out = "\x1b[H";
  for (char c : text) {
    if (c == '\n') {
      out += "\x1b[K\r\n";
    } else {
      out += c;
    }
  }
  out_ << out << "\x1b[K\x1b[J" << std::flush;
}

FullScreen::Wake FullScreen::WaitUntil(MonoTime deadline) {
  for (;;) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) return Wake::kTimeout;
    std::array<pollfd, 2> fds = {{{.fd = signals_.fd(), .events = POLLIN, .revents = 0},
                                  {.fd = has_keys_ ? input_ : -1, .events = POLLIN, .revents = 0}}};
    ::poll(fds.data(), fds.size(), static_cast<int>(left.count()));
    if (fds[0].revents != 0) {
      const Wake wake = TakeSignal(Wake::kTimeout);
      if (wake != Wake::kTimeout) return wake;
    }
    if (fds[1].revents != 0 && TakeQuitKey()) return Wake::kQuit;
  }
}

FullScreen::Wake FullScreen::TakeSignal(Wake otherwise) {
  switch (const int signal = signals_.Take()) {
    case 0:
      return otherwise;
    case SIGWINCH:
      return Wake::kResized;
    case SIGTSTP:
      Leave();
      ::raise(SIGSTOP);
      Enter();
      return Wake::kResized;
    default:
      signal_ = signal;
      return Wake::kQuit;
  }
}

bool FullScreen::TakeQuitKey() {
  std::array<char, 64> keys;
  const ssize_t count = ::read(input_, keys.data(), keys.size());
  if (count <= 0) {
    has_keys_ = false;  // nobody is there to press one
    return count == 0;
  }
  return std::any_of(keys.begin(), keys.begin() + count,
                     [](char key) { return key == 'q' || key == 'Q'; });
}

}  // namespace ctr::cli
