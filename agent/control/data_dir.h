#pragma once

#include <string>

#include "agent/base/error.h"
#include "agent/base/fd.h"

namespace ctr {

// The agent's data directory, locked for one agent at a time. What is decided once for its life is
// kept in it: DATA/agent-id, and DATA/containerd-socket: which containerd the instances live in.
// Used at start-up only.
class DataDir {
 public:
  // Creates and locks it. FAILED_PRECONDITION while another agent has it; an error names what can't
  // be written. `lock`: what a running agent handed over, which may be invalid.
  static StatusOr<DataDir> Open(std::string path, UniqueFd lock = UniqueFd());
  int lock() const { return lock_.get(); }
  // Writes into the lock whose it is, only to show.
  void NotePid() const;

  const std::string& path() const { return path_; }
  std::string LogDir() const { return path_ + "/logs"; }
  std::string StatePath() const { return path_ + "/state.db"; }

  // Whether an earlier agent has used the directory.
  bool HasAgentId() const;
  // Made at the first call: 10 random characters of a ULID.
  StatusOr<std::string> AgentId() const;

  // The containerd decided on at the first start: `requested` then ("" for a private one), and from
  // then on what is kept. FAILED_PRECONDITION if `requested` names another: instances would be lost
  // from sight.
  StatusOr<std::string> DecideContainerd(const std::string& requested) const;
  // Whether there is anything of an agent's: else what there is may be anybody's.
  bool IsInUse() const;
  // Removes all that an agent has written there, and the directory if nothing else is in it: the
  // next start is a first one. Once nothing of the agent runs any more.
  Status Purge() const;

 private:
  DataDir(std::string path, UniqueFd lock) : path_(std::move(path)), lock_(std::move(lock)) {}

  std::string path_;
  UniqueFd lock_;
};

// Creates RUN with mode 0755, and locks it: RUN/lock is held as long as what is returned.
// FAILED_PRECONDITION while another agent has it. (That somebody can connect to RUN/agent.sock says
// nothing: it may wait for us in the service manager's store.) `lock` as above.
StatusOr<UniqueFd> PrepareRunDir(const std::string& path, UniqueFd lock = UniqueFd());

}  // namespace ctr
