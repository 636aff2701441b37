#pragma once

#include <memory>
#include <string>

#include "agent/control/supervisor.h"

namespace ctr {

// A process that runs inside an instance at a client's wish, and what it holds: the instance, which
// stays awake meanwhile. Home: the control loop. Its life is recorded among the events.
class RunningExec {
 public:
  // Wakes the instance and starts the process. What it gives may be let go of on any thread, and
  // ends on control. NOT_FOUND, and the errors of a wake and of Runtime::Exec.
  static awaitable<StatusOr<std::shared_ptr<RunningExec>>> Start(
      Supervisor* supervisor, Runtime* runtime, asio::any_io_executor control,
      Supervisor::InstancePtr instance, ExecSpec spec, MonoTime deadline, std::string cause);
  RunningExec(const RunningExec&) = delete;

  // Once, before anything else.
  ExecStreams TakeStreams() { return process_->TakeStreams(); }
  // As ExecProcess's; NOT_FOUND after End.
  awaitable<Status> Signal(int signal);
  awaitable<Status> Resize(TerminalSize size);
  awaitable<Status> CloseInput();
  // The process's exit code.
  awaitable<StatusOr<int>> WaitExit();
  // Its client has the exit code, or is gone: ends the process if it runs, and WaitExit with it.
  void End();

 private:
  RunningExec(EventLog& events, Visit visit, std::unique_ptr<ExecProcess> process,
              std::string command, std::string cause);
  ~RunningExec() = default;
  void Record(std::string message, std::optional<int> exit_code);

  EventLog& events_;
  const Visit visit_;
  std::unique_ptr<ExecProcess> process_;  // null after End
  const std::string command_;
  const std::string cause_;
  bool ended_ = false;
};

}  // namespace ctr
