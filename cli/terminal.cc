#include "cli/terminal.h"

#include <sys/ioctl.h>

namespace ctr::cli {

std::optional<v1::TerminalSize> SizeOf(std::initializer_list<int> descriptors) {
  for (int descriptor : descriptors) {
    winsize size = {};
    if (::ioctl(descriptor, TIOCGWINSZ, &size) != 0 || size.ws_row == 0) continue;
    v1::TerminalSize found;
    found.set_rows(size.ws_row);
    found.set_columns(size.ws_col);
    return found;
  }
  return std::nullopt;
}

RawTerminal::RawTerminal(int descriptor) : descriptor_(descriptor) {
  is_terminal_ = ::tcgetattr(descriptor, &before_) == 0;
  Apply();
}

RawTerminal::~RawTerminal() {
  if (is_terminal_) ::tcsetattr(descriptor_, TCSADRAIN, &before_);
}

void RawTerminal::Apply() const {
  if (!is_terminal_) return;
  termios raw = before_;
  ::cfmakeraw(&raw);
  ::tcsetattr(descriptor_, TCSADRAIN, &raw);
}

}  // namespace ctr::cli
