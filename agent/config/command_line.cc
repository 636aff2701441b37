#include "agent/config/command_line.h"

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <utility>

#include <CLI/CLI.hpp>

#include "absl/strings/str_cat.h"

namespace ctr {
namespace {

struct Flags {
  std::optional<std::string> config;
  std::optional<std::string> data_dir;
  std::optional<std::string> run_dir;
  std::optional<std::string> http;
  std::optional<std::string> containerd;
  std::optional<std::string> instance_range;
  std::optional<std::string> class_range;
};

void Define(CLI::App& app, Flags& flags, CommandLine& line) {
  app.set_help_flag("-h,--help", "Print this and exit");
  app.add_option(
         "--config", flags.config,
         absl::StrCat("Configuration file (default ", kDefaultConfigPath, ", if it is there)"))
      ->type_name("FILE");
  const AgentConfig& config = line.config;
  const auto add = [&](const char* name, std::optional<std::string>& flag, const char* type,
                       std::string_view meaning, const std::string& standard) {
    app.add_option(name, flag, absl::StrCat(std::string(meaning), " (default ", standard, ")"))
        ->type_name(type);
  };
  add("--data-dir", flags.data_dir, "DIR", "State, images and logs", config.data_dir);
  add("--run-dir", flags.run_dir, "DIR", "Sockets", config.run_dir);
  add("--http", flags.http, "ADDR:PORT", "The HTTP ingress", config.http.ToString());
  add("--containerd", flags.containerd, "SOCK",
      "Socket of the containerd to use; decided at the first start", "a private containerd");
  add("--instance-range", flags.instance_range, "NET", "Addresses of instances",
      config.instance_range.ToString());
  add("--class-range", flags.class_range, "NET", "Addresses of classes",
      config.class_range.ToString());
  app.add_flag("--purge", line.purge,
               "Stop and remove everything that belongs to the data directory, and exit");
  app.add_flag("--takeover", line.takeover,
               "Take over from the agent that runs with the same directories, without a request "
               "that fails; it exits when it is done with what it has");
  app.add_flag("--reload", line.reload,
               "Have the agent that runs start a new one that takes over from it, and exit when "
               "that serves");
  app.add_flag("--doctor", line.doctor,
               "Look at what this machine has of what the agent needs, print it as JSON, and exit "
               "(ctr doctor shows it)");
  app.add_flag("--version", line.version, "Print the version and exit");
}

// The file's text; nothing if it is not there.
StatusOr<std::optional<std::string>> ReadFile(const std::string& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (status.type() == std::filesystem::file_type::not_found) return std::nullopt;
  if (std::filesystem::is_directory(status)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " is a directory, not a configuration file"));
  }
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (!file.is_open() || !(text << file.rdbuf() || file.peek() == EOF)) {
    return ErrnoError(errno, absl::StrCat("cannot read ", path));
  }
  return std::move(text).str();
}

StatusOr<AgentConfig> ReadConfig(const Flags& flags) {
  const std::string path = flags.config.value_or(kDefaultConfigPath);
  CTR_ASSIGN_OR_RETURN(std::optional<std::string> text, ReadFile(path));
  if (text) return ParseAgentConfig(*text, path);
  if (!flags.config) return AgentConfig();
  return absl::NotFoundError(absl::StrCat("--config: there is no file ", path));
}

template <typename T, typename Parse>
Status Override(const std::optional<std::string>& flag, std::string_view name, Parse parse,
                T& out) {
  if (!flag) return absl::OkStatus();
  StatusOr<T> value = parse(*flag);
  if (!value.ok()) return Annotate(value.status(), name);
  out = *std::move(value);
  return absl::OkStatus();
}

StatusOr<std::string> ParsePath(const std::string& text) {
  if (text.empty()) return absl::InvalidArgumentError("must name a directory");
  std::string path = std::filesystem::absolute(text).lexically_normal();
  if (path.size() > 1 && path.ends_with('/')) path.pop_back();
  return path;
}

StatusOr<std::string> ParseRunPath(const std::string& text) {
  CTR_ASSIGN_OR_RETURN(std::string path, ParsePath(text));
  CTR_RETURN_IF_ERROR(CheckRunDir(path));
  return path;
}

Status Apply(const Flags& flags, AgentConfig& config) {
  CTR_RETURN_IF_ERROR(Override(flags.data_dir, "--data-dir", ParsePath, config.data_dir));
  CTR_RETURN_IF_ERROR(Override(flags.run_dir, "--run-dir", ParseRunPath, config.run_dir));
  CTR_RETURN_IF_ERROR(Override(flags.http, "--http", ParseHttpAddress, config.http));
  CTR_RETURN_IF_ERROR(
      Override(flags.containerd, "--containerd", ParseSocketPath, config.containerd));
  CTR_RETURN_IF_ERROR(Override(flags.instance_range, "--instance-range", ParseLoopbackRange,
                               config.instance_range));
  CTR_RETURN_IF_ERROR(
      Override(flags.class_range, "--class-range", ParseLoopbackRange, config.class_range));
  return CheckAgentConfig(config);
}

}  // namespace

StatusOr<CommandLine> ParseCommandLine(int argc, const char* const* argv) {
  CommandLine line;
  Flags flags;
  CLI::App app("Runs container classes on this host; ctr talks to it.", "ctr-agent");
  Define(app, flags, line);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    line.help = app.help();
    return line;
  } catch (const CLI::ParseError& error) {
    return absl::InvalidArgumentError(
        absl::StrCat(error.what(), "; ctr-agent --help lists the flags"));
  }
  if (line.version) return line;
  if (line.purge + line.takeover + line.reload > 1) {
    return absl::InvalidArgumentError("give one of --purge, --takeover and --reload");
  }
  CTR_ASSIGN_OR_RETURN(line.config, ReadConfig(flags));
  CTR_RETURN_IF_ERROR(Apply(flags, line.config));
  return line;
}

}  // namespace ctr
