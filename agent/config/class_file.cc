#include "agent/config/class_file.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/base/signal_name.h"
#include "agent/config/memory_size.h"
#include "agent/config/table_reader.h"
#include "agent/model/names.h"
#include "agent/model/reference.h"

namespace ctr {
namespace {

using config::FileErrors;
using config::TableReader;
using config::TomlEntry;

constexpr int64_t kMaxPort = 65535;
constexpr int64_t kMaxInstances = 1'000'000;
constexpr int64_t kMaxConcurrency = 1'000'000;
constexpr int64_t kMaxOpenFiles = 1'048'576;  // the kernel's fs.nr_open
constexpr int64_t kMaxPids = 4'194'304;       // the kernel's PID_MAX_LIMIT
constexpr double kMinCpus = 0.01;             // the least CFS quota is 1 ms of 100
constexpr double kMinBusyCpu = 0.001;
constexpr double kMaxCpus = 8192;                     // the kernel's NR_CPUS
constexpr int64_t kMinMemoryBytes = 6 * 1024 * 1024;  // docker's; below it runc can't start
constexpr int64_t kMinLogBytes = 64 * 1024;           // several of the longest lines
constexpr int64_t kMaxLogFiles = 1000;
constexpr Duration kShortest = std::chrono::milliseconds(1);

void ReadIdentity(TableReader& file, ClassConfig& config) {
  if (auto name = file.String("name")) {
    config.name = *name;
    Status valid = CheckDnsLabel(*name, "class name");
    if (!valid.ok()) file.Fail("name", std::string(valid.message()));
  }
  if (auto image = file.String("image")) {
    config.image = *image;
    Status valid = NormalizeReference(*image).status();
    if (!valid.ok()) file.Fail("image", std::string(valid.message()));
  }
  file.Choice<bool>("pull_policy", {{"missing", true}, {"never", true}, {"always", {}}});
}

std::optional<Protocol> ReadProtocol(TableReader& table, std::string_view key) {
  return table.Choice<Protocol>(key, {{"http", Protocol::kHttp}, {"tcp", Protocol::kTcp}});
}

void ReadPorts(TableReader& file, ClassConfig& config) {
  const std::optional<Protocol> protocol = ReadProtocol(file, "default_protocol");
  if (auto port = file.Integer("default_port", 1, kMaxPort)) {
    config.default_port = static_cast<uint16_t>(*port);
    config.ports.push_back({*config.default_port, protocol.value_or(Protocol::kHttp)});
  } else if (protocol && file.Find("default_port") == nullptr) {
    file.Fail("default_protocol", "needs a default_port");
  }
  for (TableReader& table : file.Tables("port")) {
    if (auto port = table.Integer("port", 1, kMaxPort)) {
      const auto number = static_cast<uint16_t>(*port);
      if (config.FindPort(number) != nullptr) {
        table.Fail("port", absl::StrCat(number, " is declared twice"));
      }
      config.ports.push_back({number, ReadProtocol(table, "protocol").value_or(Protocol::kHttp)});
    } else {
      ReadProtocol(table, "protocol");
      if (table.Find("port") == nullptr) {
        table.Fail("port", "is missing; write it like port = 9090");
      }
    }
    table.Finish(&file);
  }
  if (auto required = file.Integers("required_ports", 1, kMaxPort)) {
    config.required_ports.assign(required->begin(), required->end());
  } else if (config.default_port) {
    config.required_ports = {*config.default_port};
  }
}

void CheckVariableName(TableReader& file, std::string_view key, const std::string& name) {
  if (name.empty() || name.find_first_of(std::string_view("=\0", 2)) != std::string::npos) {
    file.Fail(key, absl::StrCat("\"", name, "\" can't name an environment variable"));
  } else if (name == "CTR_CLASS" || name == "CTR_ID") {
    file.Fail(key, absl::StrCat(name, " is set for every instance by ctr itself; take it out"));
  }
}

void ReadProcess(TableReader& file, ClassConfig& config) {
  config.entrypoint = file.Strings("entrypoint");
  if (config.entrypoint && (config.entrypoint->empty() || config.entrypoint->front().empty())) {
    file.Fail("entrypoint", "must name a program; leave it out for the image's");
  }
  config.env = file.StringMap("env").value_or(config.env);
  for (const auto& [name, value] : config.env) CheckVariableName(file, "env", name);
  config.labels = file.StringMap("labels").value_or(config.labels);
  if (config.labels.contains("")) file.Fail("labels", "a label needs a name");
  config.read_only = file.Bool("read_only").value_or(config.read_only);
  config.nofile =
      static_cast<int>(file.Integer("nofile", 1, kMaxOpenFiles).value_or(config.nofile));
  config.dial =
      file.Choice<Dial>("dial", {{"private", Dial::kPrivate}, {"loopback", Dial::kLoopback}})
          .value_or(config.dial);
}

void ReadStopSignal(TableReader& file, ClassConfig& config) {
  const TomlEntry* entry = file.Find("stop_signal");
  if (entry == nullptr) return;
  std::string text;
  if (const auto* name = entry->value.As<std::string>()) text = *name;
  if (const auto* number = entry->value.As<int64_t>()) text = absl::StrCat(*number);
  config.stop_signal = ParseSignal(text);
  if (!config.stop_signal) {
    file.Fail(*entry, absl::StrCat("\"", text, "\" is no signal; write it like SIGTERM"));
  }
}

void ReadSleepAfter(TableReader& file, ClassConfig& config) {
  const TomlEntry* entry = file.Find("sleep_after");
  if (entry == nullptr) return;
  const auto* text = entry->value.As<std::string>();
  if (text != nullptr && *text == "never") {
    config.sleep_after = std::nullopt;
  } else {
    config.sleep_after = file.Interval("sleep_after", kShortest);
  }
}

void ReadLife(TableReader& file, ClassConfig& config) {
  ReadSleepAfter(file, config);
  config.tcp_idle = file.Interval("tcp_idle", kShortest);
  config.manual_start = file.Bool("manual_start").value_or(config.manual_start);
  config.create =
      file.Choice<CreateBy>("create", {{"get", CreateBy::kGet}, {"request", CreateBy::kRequest}})
          .value_or(config.create);
  config.max_instances = static_cast<int>(
      file.Integer("max_instances", 1, kMaxInstances).value_or(config.max_instances));
  config.start_timeout = file.Interval("start_timeout", kShortest).value_or(config.start_timeout);
  ReadStopSignal(file, config);
  config.stop_grace = file.Interval("stop_grace", Duration::zero()).value_or(config.stop_grace);
  config.drain = file.Interval("drain", Duration::zero()).value_or(config.drain);
  config.restart = file.Choice<RestartPolicy>("restart", {{"never", RestartPolicy::kNever},
                                                          {"on-failure", RestartPolicy::kOnFailure},
                                                          {"always", RestartPolicy::kAlways}})
                       .value_or(config.restart);
  config.busy_cpu = file.Number("busy_cpu", kMinBusyCpu, kMaxCpus);
  config.disk = file.Choice<Disk>("disk", {{"ephemeral", Disk::kEphemeral}, {"keep", Disk::kKeep}})
                    .value_or(config.disk);
}

std::vector<std::string> ReadHook(TableReader& hooks, std::string_view key) {
  std::optional<std::vector<std::string>> command = hooks.Strings(key);
  if (!command) return {};
  if (command->empty() || command->front().empty()) {
    hooks.Fail(key, "must name a program; leave it out for none");
  }
  return *std::move(command);
}

void ReadHooks(TableReader& file, Hooks& hooks) {
  std::optional<TableReader> table = file.Table("hooks");
  if (!table) return;
  hooks.on_start = ReadHook(*table, "on_start");
  hooks.on_stop = ReadHook(*table, "on_stop");
  hooks.on_error = ReadHook(*table, "on_error");
  hooks.on_activity_expired = ReadHook(*table, "on_activity_expired");
  table->Finish(&file);
}

// A size in bytes, at least `min`.
std::optional<int64_t> ReadSize(TableReader& table, std::string_view key, int64_t min) {
  std::optional<std::string> text = table.String(key);
  if (!text) return std::nullopt;
  StatusOr<int64_t> bytes = ParseMemorySize(*text);
  if (!bytes.ok()) {
    table.Fail(key, std::string(bytes.status().message()));
  } else if (*bytes < min) {
    table.Fail(key, absl::StrCat("must be at least ", FormatMemorySize(min)));
  } else {
    return *bytes;
  }
  return std::nullopt;
}

void ReadLog(TableReader& file, LogLimits& log) {
  std::optional<TableReader> table = file.Table("log");
  if (!table) return;
  log.max_size_bytes = ReadSize(*table, "max_size", kMinLogBytes).value_or(log.max_size_bytes);
  log.files = static_cast<int>(table->Integer("files", 1, kMaxLogFiles).value_or(log.files));
  table->Finish(&file);
}

void ReadResources(TableReader& file, Resources& resources) {
  std::optional<TableReader> table = file.Table("resources");
  if (!table) return;
  resources.cpus = table->Number("cpus", kMinCpus, kMaxCpus);
  resources.memory_bytes = ReadSize(*table, "memory", kMinMemoryBytes);
  resources.pids = table->Integer("pids", 1, kMaxPids).value_or(resources.pids);
  table->Finish(&file);
}

void ReadRouting(TableReader& file, ClassConfig& config) {
  // By default no more than may live at a time.
  config.route_instances = std::min(config.route_instances, config.max_instances);
  if (std::optional<TableReader> route = file.Table("route")) {
    route->Choice<bool>("policy", {{"random", true}, {"nearest", {}}});
    if (auto instances = route->Integer("instances", 1, kMaxInstances)) {
      config.route_instances = static_cast<int>(*instances);
      if (config.route_instances > config.max_instances) {
        route->Fail("instances", absl::StrCat("must be at most max_instances, which is ",
                                              config.max_instances, ", or not all can be awake"));
      }
    }
    route->Finish(&file);
  }
  if (auto limit = file.Integer("max_concurrency", 1, kMaxConcurrency)) {
    config.max_concurrency = static_cast<int>(*limit);
  }
  if (std::optional<TableReader> network = file.Table("network")) {
    network->OnlyFalse("internet");
    network->Finish(&file);
  }
  file.OnlyFalse("autoscale");
}

// What must be there, and what must fit together. Run only on values that are right by themselves.
void CheckWhole(TableReader& file, const ClassConfig& config) {
  if (config.name.empty()) file.Fail("name", "is missing; write it like name = \"web\"");
  if (config.image.empty()) file.Fail("image", "is missing; write it like image = \"demo:latest\"");
  if (!config.ports.empty() && !config.default_port) {
    file.Fail("default_port", "is missing; a class with a [[port]] needs one");
  }
  for (auto port = config.required_ports.begin(); port != config.required_ports.end(); ++port) {
    if (config.FindPort(*port) == nullptr) {
      file.Fail("required_ports",
                absl::StrCat(*port, " is not declared; make it default_port or a [[port]]"));
    } else if (std::find(config.required_ports.begin(), port, *port) != port) {
      file.Fail("required_ports", absl::StrCat(*port, " stands twice"));
    }
  }
}

}  // namespace

StatusOr<ClassConfig> ParseClassFile(std::string_view toml, std::string_view file_name) {
  CTR_ASSIGN_OR_RETURN(config::TomlTable table, config::ParseToml(toml, file_name));
  FileErrors errors(file_name);
  TableReader file(table, "", 0, errors);
  ClassConfig config;
  ReadIdentity(file, config);
  ReadProcess(file, config);
  ReadLife(file, config);
  ReadHooks(file, config.hooks);
  ReadLog(file, config.log);
  for (std::string_view key : {"readiness", "volume"}) file.NotBuilt(key);
  ReadRouting(file, config);
  ReadResources(file, config.resources);
  ReadPorts(file, config);
  if (config.IsJob() && file.Find("sleep_after") == nullptr) config.sleep_after = std::nullopt;
  if (config.IsJob() && file.Find("restart") == nullptr) config.restart = RestartPolicy::kNever;
  file.Finish();
  if (!errors.any()) CheckWhole(file, config);
  CTR_RETURN_IF_ERROR(errors.First());
  return config;
}

}  // namespace ctr
