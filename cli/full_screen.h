#pragma once

#include <signal.h>
#include <termios.h>

#include <ostream>
#include <string>

#include "agent/base/fd.h"
#include "agent/base/time.h"
#include "cli/usage.h"

namespace ctr::cli {

// Takes the signals that end a live view, from here on and for threads that begin later. Made
// before anything else that starts threads; they are as before once it is gone.
class SignalTrap {
 public:
  SignalTrap();
  ~SignalTrap();
  SignalTrap(const SignalTrap&) = delete;

  int fd() const { return fd_.get(); }
  // The next one that has come; 0 if none has.
  int Take() const;

 private:
  UniqueFd fd_;
  sigset_t before_ = {};
};

// A terminal taken over for a live view: another screen, no cursor, keys without Enter. Given back
// when this goes.
class FullScreen {
 public:
  enum class Wake { kTimeout, kResized, kQuit };

  // `input` is a descriptor; keys are read if it is a terminal, too.
  FullScreen(int input, std::ostream& out, const SignalTrap& signals);
  ~FullScreen();
  FullScreen(const FullScreen&) = delete;

  ScreenSize size() const;
  void Draw(const std::string& text);

  // Waits until `deadline`, a change of the size, or `q` or a signal that ends it all.
  Wake WaitUntil(MonoTime deadline);
  // The signal that ended it; 0: it was `q`.
  int signal() const { return signal_; }

 private:
  void Enter();
  void Leave();
  Wake TakeSignal(Wake otherwise);
  bool TakeQuitKey();

  const int input_;
  std::ostream& out_;
  const SignalTrap& signals_;
  termios before_ = {};  // read by is_terminal_'s initializer, so before it
  const bool is_terminal_;
  bool has_keys_;
  int signal_ = 0;
};

}  // namespace ctr::cli
