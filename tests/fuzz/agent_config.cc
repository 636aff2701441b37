// The agent's own file: taken whole or refused in one line.
#include "agent/config/agent_config.h"

#include "agent/model/names.h"
#include "tests/fuzz/fuzz.h"

namespace ctr {

void Fuzz(std::string_view input) {
  const StatusOr<AgentConfig> config = ParseAgentConfig(input, "agent.toml");
  if (!config.ok()) {
    CTR_HOLDS(absl::IsInvalidArgument(config.status()));
    CTR_HOLDS(config.status().message().substr(0, 11) == "agent.toml:");
    CTR_HOLDS(config.status().message().find('\n') == absl::string_view::npos);
    return;
  }
  CTR_HOLDS(config->data_dir.starts_with('/') && config->run_dir.starts_with('/'));
  CTR_HOLDS(ParseHttpAddress(config->http.ToString()).ok());
  CTR_HOLDS(ParseLoopbackRange(config->instance_range.ToString()).ok());
  CTR_HOLDS(!config->domains.empty() && config->data_threads > 0);
  CheckAgentConfig(*config).IgnoreError();
}

}  // namespace ctr
