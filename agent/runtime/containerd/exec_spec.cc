#include "agent/runtime/containerd/exec_spec.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "agent/runtime/containerd/errors.h"
#include "agent/runtime/variables.h"

namespace ctr {
namespace {

using nlohmann::json;

bool HasNul(const std::string& text) { return text.find('\0') != std::string::npos; }

Status CheckPassable(const ExecSpec& spec) {
  bool variables = std::any_of(spec.env.begin(), spec.env.end(), [](const auto& variable) {
    return HasNul(variable.first) || HasNul(variable.second);
  });
  if (variables || HasNul(spec.working_dir) ||
      std::any_of(spec.argv.begin(), spec.argv.end(), HasNul)) {
    return Error(absl::StatusCode::kInvalidArgument, code::kBadRequest,
                 "the command or its environment has a NUL byte, which can't be passed: remove it");
  }
  if (spec.argv.empty() || spec.argv.front().empty()) {
    return Error(absl::StatusCode::kInvalidArgument, code::kBadRequest,
                 "there is no command to run");
  }
  if (!spec.working_dir.empty() && spec.working_dir.front() != '/') {
    return Error(
        absl::StatusCode::kInvalidArgument, code::kBadRequest,
        absl::StrCat("the working directory ", spec.working_dir, " is not an absolute path"));
  }
  return absl::OkStatus();
}

}  // namespace

StatusOr<std::string> ExecProcessText(const std::string& oci_spec, const ExecSpec& spec) {
  CTR_RETURN_IF_ERROR(CheckPassable(spec));
  json container = json::parse(oci_spec, nullptr, false);
  auto found = container.find("process");
  if (container.is_discarded() || found == container.end() || !found->is_object()) {
    return absl::InternalError("containerd's record of the container has no readable OCI spec");
  }
  json process = std::move(*found);
  process["args"] = spec.argv;
  Variables env;
  for (const json& variable : process["env"]) env.Set(variable.get<std::string>());
  for (const auto& [name, value] : spec.env) env.Set(absl::StrCat(name, "=", value));
  process["env"] = env.list();
  if (!spec.working_dir.empty()) process["cwd"] = spec.working_dir;
  process["terminal"] = spec.terminal.has_value();
  if (spec.terminal) {
    process["consoleSize"] = {{"height", spec.terminal->rows}, {"width", spec.terminal->columns}};
  }
  return process.dump(-1, ' ', false, json::error_handler_t::replace);
}

Status ExecError(const Status& status, const ExecSpec& spec) {
  if (status.ok()) return status;
  std::string message = CleanContainerdMessage(std::string(status.message()));
  auto command = [&](std::string_view error_code, absl::string_view what) {
    return Error(absl::StatusCode::kFailedPrecondition, error_code,
                 absl::StrCat("cannot run \"", spec.argv.front(), "\": ", what));
  };
  // chdir to cwd ("/work") set in config.json failed: no such file or directory
  if (size_t at = message.find("chdir to cwd (\""); at != std::string::npos) {
    const std::string folder = message.substr(message.find('"', at) + 1);
    return command(code::kCommandNotExecutable,
                   absl::StrCat("its working directory ", folder.substr(0, folder.find('"')),
                                " cannot be entered: ", message.substr(message.rfind(": ") + 2)));
  }
  // runc's own process in the instance could make none, or no thread.
  if (absl::StrContains(message, "resource temporarily unavailable") ||
      absl::StrContains(message, "read init-p: connection reset by peer")) {
    return Error(absl::StatusCode::kResourceExhausted, code::kOverloaded,
                 absl::StrCat("cannot run \"", spec.argv.front(),
                              "\": the instance has no room for another process: raise "
                              "resources.pids, or resources.memory, or stop some of it"));
  }
  if (absl::StrContains(message, "executable file not found") ||
      absl::StrContains(message, "no such file or directory")) {
    return command(code::kCommandNotFound, "not found in the instance (or its interpreter is)");
  }
  if (absl::StrContains(message, "permission denied") ||
      absl::StrContains(message, "is a directory") ||
      absl::StrContains(message, "exec format error")) {
    return command(code::kCommandNotExecutable, "it is not an executable file");
  }
  return Annotate(Status(status.code(), message),
                  absl::StrCat("cannot run \"", spec.argv.front(), "\""));
}

}  // namespace ctr
