#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/asio.h"
#include "agent/base/error.h"
#include "agent/base/fd.h"

namespace ctr {

struct TerminalSize {
  uint16_t rows = 24;
  uint16_t columns = 80;
};

// A process to run beside a container's first one, as the same user and with the same limits.
struct ExecSpec {
  std::vector<std::string> argv;
  std::map<std::string, std::string> env = {};  // over the container's own
  std::string working_dir = {};                 // absolute; "": the container's own
  std::optional<TerminalSize> terminal = {};    // it gets a terminal of this size
  bool wants_stdin = false;
};

// Our ends of its standard streams, non-blocking.
struct ExecStreams {
  UniqueFd input;   // invalid unless wanted; closing it is not enough: ExecProcess::CloseInput
  UniqueFd output;  // at its end once the process and those it left behind have closed theirs
  UniqueFd error;   // invalid with a terminal: that has one stream
};

// A process that was started so. Home: the control loop, where it is destroyed, too. Its end, and
// that of this object, leave nothing: a process that still runs is hung up (SIGHUP), then killed.
class ExecProcess {
 public:
  virtual ~ExecProcess() = default;

  // Once.
  virtual ExecStreams TakeStreams() = 0;

  // To the process and what it started in its process group, as a terminal does. NOT_FOUND once it
  // has exited.
  virtual Status Signal(int signal) = 0;
  virtual awaitable<Status> Resize(TerminalSize size) = 0;
  // After our end of its input was closed: lets the process see the end.
  virtual awaitable<Status> CloseInput() = 0;
  // Returns its exit code once it has exited, 128+n by signal n; 137 if the container ended.
  virtual awaitable<StatusOr<int>> WaitExit() = 0;
};

}  // namespace ctr
