#pragma once

#include <string>

#include "agent/base/error.h"
#include "agent/config/agent_config.h"

namespace ctr {

inline constexpr char kDefaultConfigPath[] = "/etc/ctr/agent.toml";

// What ctr-agent was asked for.
struct CommandLine {
  AgentConfig config;  // flag, else file, else default
  bool purge = false;
  bool takeover = false;  // from the agent that runs, if one does
  bool reload = false;    // have the agent that runs replaced by a new one
  bool doctor = false;    // look at the host, print findings as JSON, and exit
  bool version = false;
  std::string help;  // to print instead of anything else; "" if it was not asked for
};

// Reads ctr-agent's command line and the file that it names. INVALID_ARGUMENT for a wrong flag or
// file, NOT_FOUND if a given file is not there (the default one may be absent). With --help or
// --version the file is not read.
StatusOr<CommandLine> ParseCommandLine(int argc, const char* const* argv);

}  // namespace ctr
