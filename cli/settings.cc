#include "cli/settings.h"

#include <sys/un.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "agent/base/duration.h"

namespace ctr::cli {
namespace {

constexpr char kDefaultHost[] = "unix:///run/ctr/agent.sock";

struct Picked {
  std::string text;
  std::string origin;  // for messages
};

Picked Pick(const std::optional<std::string>& flag, const char* flag_name,
            const Environment& environment, const char* variable, const char* otherwise) {
  if (flag) return {*flag, flag_name};
  if (auto value = Variable(environment, variable)) return {*value, variable};
  return {otherwise, flag_name};
}

}  // namespace

std::optional<std::string> Variable(const Environment& environment, const std::string& name) {
  auto found = environment.find(name);
  if (found == environment.end() || found->second.empty()) return std::nullopt;
  return found->second;
}

std::optional<Output> ParseOutput(const std::string& text) {
  if (text == "table") return Output::kTable;
  if (text == "json") return Output::kJson;
  if (text == "jsonl") return Output::kJsonLines;
  if (text == "name") return Output::kName;
  return std::nullopt;
}

StatusOr<std::string> SocketPathOf(const std::string& host) {
  std::string path = host;
  if (absl::StartsWith(path, "unix://")) {
    path = path.substr(7);
  } else if (absl::StartsWith(path, "unix:")) {
    path = path.substr(5);
  } else if (!absl::StartsWith(path, "/")) {
    path = "";
  }
  if (path.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "\"", host, "\" is not an agent's address; write it like unix:///run/ctr/agent.sock"));
  }
  if (path.size() >= sizeof(sockaddr_un::sun_path)) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", path, "\" is too long for a Unix socket; use a path of at most ",
                     sizeof(sockaddr_un::sun_path) - 1, " bytes"));
  }
  return path;
}

StatusOr<Settings> ResolveSettings(const GlobalFlags& flags, const Environment& environment,
                                   std::optional<Duration> default_timeout) {
  Settings settings;
  Picked host = Pick(flags.host, "--host", environment, "CTR_HOST", kDefaultHost);
  StatusOr<std::string> path = SocketPathOf(host.text);
  if (!path.ok()) return Annotate(path.status(), host.origin);
  settings.socket_path = *std::move(path);

  settings.class_name = Pick(flags.class_name, "--class", environment, "CTR_CLASS", "").text;

  Picked output = Pick(flags.output, "--output", environment, "CTR_OUTPUT", "table");
  std::optional<Output> parsed = ParseOutput(output.text);
  if (!parsed) {
    return absl::InvalidArgumentError(absl::StrCat(output.origin, ": \"", output.text,
                                                   "\" is no format; use table, json, jsonl or "
                                                   "name"));
  }
  settings.output = *parsed;

  settings.timeout = default_timeout;
  if (flags.timeout) {
    StatusOr<Duration> timeout = ParseDuration(*flags.timeout);
    if (!timeout.ok()) return Annotate(timeout.status(), "--timeout");
    settings.timeout = *timeout;
    if (*timeout == Duration::zero()) settings.timeout = std::nullopt;
  }
  return settings;
}

}  // namespace ctr::cli
