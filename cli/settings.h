#pragma once

#include <map>
#include <optional>
#include <string>

#include "agent/base/error.h"
#include "agent/base/time.h"

namespace ctr::cli {

// Environment variables.
using Environment = std::map<std::string, std::string>;

enum class Output { kTable, kJson, kJsonLines, kName };

// The global flags as given, before or after the verb.
struct GlobalFlags {
  std::optional<std::string> host = std::nullopt;
  std::optional<std::string> class_name = std::nullopt;
  std::optional<std::string> output = std::nullopt;
  std::optional<std::string> timeout = std::nullopt;
};

// What holds for a command: flag, else environment, else default.
struct Settings {
  std::string socket_path;  // the agent's
  std::string class_name;   // for instances named by ID alone; "" for the only class there is
  Output output = Output::kTable;
  std::optional<Duration> timeout;  // none: no deadline
};

// `default_timeout` is the verb's. INVALID_ARGUMENT names the flag or variable that is wrong.
StatusOr<Settings> ResolveSettings(const GlobalFlags& flags, const Environment& environment,
                                   std::optional<Duration> default_timeout);

// "table", "json", "jsonl" or "name"; nothing for another text.
std::optional<Output> ParseOutput(const std::string& text);

// The path in "unix:///run/ctr/agent.sock", "unix:PATH" or "/PATH". INVALID_ARGUMENT for the rest.
StatusOr<std::string> SocketPathOf(const std::string& host);

// The variable's value; nothing if it is unset or empty.
std::optional<std::string> Variable(const Environment& environment, const std::string& name);

}  // namespace ctr::cli
