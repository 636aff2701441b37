#pragma once

#include <termios.h>

#include <initializer_list>
#include <optional>

#include "ctr/v1/agent.pb.h"

namespace ctr::cli {

// The size of the first of `descriptors` that is a terminal with a size.
std::optional<v1::TerminalSize> SizeOf(std::initializer_list<int> descriptors);

// A terminal that passes on every key as it is, for as long as this lives. Refers to the
// descriptor, which outlives it; off a terminal it does nothing.
class RawTerminal {
 public:
  explicit RawTerminal(int descriptor);
  RawTerminal(const RawTerminal&) = delete;
  ~RawTerminal();

  // Once more, after a shell has put the terminal back while this process was stopped.
  void Apply() const;

 private:
  const int descriptor_;
  termios before_ = {};
  bool is_terminal_ = false;
};

}  // namespace ctr::cli
