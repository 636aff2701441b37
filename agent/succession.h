// What main does so that an agent can follow on one that runs: how a start begins, and what the
// steps of a hand-over are to the objects that only main knows.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "agent/api/agent_service.h"
#include "agent/api/api_server.h"
#include "agent/base/fd_store.h"
#include "agent/config/command_line.h"
#include "agent/control/data_dir.h"
#include "agent/control/hand_over.h"
#include "agent/control/predecessor.h"
#include "agent/runtime/containerd/containerd_runtime.h"
#include "agent/store/sqlite/sqlite_store.h"

namespace ctr {

// The name of RUN's lock in the FdStore.
inline constexpr char kRunLock[] = "lock-run";

// What there is before the directories are locked. As long as the process.
struct Beginning {
  CommandLine command_line;
  std::vector<std::string>
      command;  // this process's program, as it was at its start, and its flags
  FdStore fd_store;
  std::unique_ptr<Predecessor> predecessor;  // null: this agent does not take over

  // Starts an agent that takes over from this one.
  std::vector<std::string> SuccessorCommand() const;
};

// Has a running agent hand over, if that is asked for and one runs. Blocks.
StatusOr<Beginning> Begin(const CommandLine& command_line, int argc, char** argv);

// By the lock of the predecessor, if there is one.
StatusOr<DataDir> LockDataDir(Beginning& beginning);

// ctr-logger is installed beside ctr-agent; CTR_LOGGER names another.
StatusOr<std::string> FindLogger();

// What an agent that takes over does in its recovery; nothing if it does not.
RecoverySteps RecoveryStepsOf(Beginning& beginning);

// What lets go. All of it lives as long as the process.
struct AgentParts {
  ApiServer* server;
  AgentService* service;
  SqliteStore* store;
  ContainerdRuntime* runtime;
  Supervisor* supervisor;
  const DataDir* data_dir;
  Clock* clock;
  asio::cancellation_signal* stop_metrics;
};
HandOverSteps HandOverStepsOf(const AgentParts& parts);

}  // namespace ctr
