// A class file: taken whole or refused in one line.
#include "agent/config/class_file.h"

#include <nlohmann/json.hpp>

#include "agent/model/names.h"
#include "agent/model/reference.h"
#include "tests/fuzz/fuzz.h"

namespace ctr {

void Fuzz(std::string_view input) {
  const StatusOr<ClassConfig> config = ParseClassFile(input, "web.toml");
  if (!config.ok()) {
    CTR_HOLDS(absl::IsInvalidArgument(config.status()));
    CTR_HOLDS(config.status().message().substr(0, 9) == "web.toml:");
    CTR_HOLDS(config.status().message().find('\n') == absl::string_view::npos);
    return;
  }
  CTR_HOLDS(IsDnsLabel(config->name));
  CTR_HOLDS(NormalizeReference(config->image).ok());
  CTR_HOLDS(config->IsJob() == config->ports.empty());
  for (uint16_t port : config->required_ports) CTR_HOLDS(config->FindPort(port) != nullptr);
  CTR_HOLDS(config->max_instances >= config->route_instances && config->route_instances >= 1);
  CTR_HOLDS(config->start_timeout > Duration::zero() && config->stop_grace >= Duration::zero());
  CTR_HOLDS(nlohmann::json::accept(SettingsJson(*config)));
}

}  // namespace ctr
