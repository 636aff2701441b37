#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include <iostream>
#include <string>

#include "cli/run.h"

namespace {

ctr::cli::Environment ReadEnvironment() {
  ctr::cli::Environment environment;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    std::string text = *variable;
    size_t equals = text.find('=');
    if (equals != std::string::npos) environment[text.substr(0, equals)] = text.substr(equals + 1);
  }
  return environment;
}

}  // namespace

int main(int argc, char** argv) {
  // SIGPIPE and SIGINT end the process as they end others, also if the parent ignores them; the
  // agent sees the connection go and cancels the call.
  ::signal(SIGPIPE, SIG_DFL);
  std::ios::sync_with_stdio(false);
  ctr::cli::Io io{.out = std::cout,
                  .err = std::cerr,
                  .input = STDIN_FILENO,
                  .out_is_terminal = ::isatty(STDOUT_FILENO) == 1,
                  .err_is_terminal = ::isatty(STDERR_FILENO) == 1};
  int exit_status = ctr::cli::Run({argv + 1, argv + argc}, ReadEnvironment(), io);
  errno = 0;
  if (!std::cout.flush()) {
    std::cerr << "ctr: cannot write to standard output"
              << (errno != 0 ? std::string(": ") + ::strerror(errno) : "") << "\n";
    exit_status = 1;
  }
  // Without gRPC's orderly end, which costs a millisecond and serves nobody.
  std::cerr.flush();
  ::_exit(exit_status);
}
