#include "agent/config/class_file.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/base/signal_name.h"
#include "agent/config/class_isolation.h"
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
constexpr int kMinOpenFiles = 16;             // no program starts with but a few
constexpr int64_t kMaxOpenFiles = 1'048'576;  // the kernel's fs.nr_open
constexpr int64_t kMaxPids = 4'194'304;       // the kernel's PID_MAX_LIMIT
constexpr double kMinCpus = 0.01;             // the least CFS quota is 1 ms of 100
constexpr double kMinBusyCpu = 0.001;
constexpr double kMaxCpus = 8192;                     // the kernel's NR_CPUS
constexpr int64_t kMinMemoryBytes = 6 * 1024 * 1024;  // docker's; below it runc can't start
constexpr int64_t kMinDiskBytes = 1024 * 1024;
constexpr int64_t kMinLogBytes = 64 * 1024;  // several of the longest lines
constexpr int64_t kMaxLogFiles = 1000;
constexpr Duration kShortest = std::chrono::milliseconds(1);
constexpr int64_t kMaxInARow = 1000;
// The limits of [autoscale] are Knative's (knative/serving, pkg/autoscaler/config/config.go and
// pkg/apis/autoscaling/register.go).
constexpr double kMinTarget = 0.01;
constexpr double kMaxTarget = 1e6;
constexpr double kLeastPart = 0.01;
constexpr double kMinRate = 1.01;
constexpr Duration kMinWindow = std::chrono::seconds(6);
constexpr Duration kMaxWindow = std::chrono::hours(1);

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
  config.pull_policy = file.Choice<PullPolicy>("pull_policy", {{"missing", PullPolicy::kMissing},
                                                               {"never", PullPolicy::kNever},
                                                               {"always", PullPolicy::kAlways}})
                           .value_or(config.pull_policy);
  if (auto digest = file.String("image_digest")) {
    config.image_digest = *digest;
    const StatusOr<std::string> pinned = NormalizeReference("a@" + *digest);
    if (!pinned.ok() || !digest->starts_with("sha256:")) {
      file.Fail("image_digest", "must be written like \"sha256:\" and 64 lower-case digits");
    }
  }
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
  config.nofile = static_cast<int>(
      file.Integer("nofile", kMinOpenFiles, kMaxOpenFiles).value_or(config.nofile));
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

// A duration, or "never": none.
void ReadOrNever(TableReader& file, std::string_view key, std::optional<Duration>& value) {
  const TomlEntry* entry = file.Find(key);
  if (entry == nullptr) return;
  const auto* text = entry->value.As<std::string>();
  value = text != nullptr && *text == "never" ? std::nullopt : file.Interval(key, kShortest);
}

void ReadLife(TableReader& file, ClassConfig& config) {
  ReadOrNever(file, "sleep_after", config.sleep_after);
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
  ReadOrNever(file, "response_timeout", config.response_timeout);
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

void ReadLog(TableReader& file, LogLimits& log) {
  std::optional<TableReader> table = file.Table("log");
  if (!table) return;
  log.max_size_bytes = table->Size("max_size", kMinLogBytes).value_or(log.max_size_bytes);
  log.files = static_cast<int>(table->Integer("files", 1, kMaxLogFiles).value_or(log.files));
  table->Finish(&file);
}

void ReadResources(TableReader& file, Resources& resources) {
  std::optional<TableReader> table = file.Table("resources");
  if (!table) return;
  resources.cpus = table->Number("cpus", kMinCpus, kMaxCpus);
  resources.memory_bytes = table->Size("memory", kMinMemoryBytes);
  resources.pids = table->Integer("pids", 1, kMaxPids).value_or(resources.pids);
  const TomlEntry* disk = table->Find("disk");
  const auto* word = disk != nullptr ? disk->value.As<std::string>() : nullptr;
  if (word != nullptr && *word == "off") {
    resources.disk_bytes.reset();
  } else if (disk != nullptr) {
    resources.disk_bytes = table->Size("disk", kMinDiskBytes);
  }
  table->Finish(&file);
}

// Whole seconds, `min` to kMaxWindow.
std::optional<Duration> ReadSeconds(TableReader& table, std::string_view key, Duration min) {
  std::optional<Duration> value = table.Interval(key, min);
  if (value && (*value > kMaxWindow || *value % std::chrono::seconds(1) != Duration::zero())) {
    table.Fail(key, "must be whole seconds, 1h at most");
  }
  return value;
}

// A part of 1, or "off".
void ReadPart(TableReader& table, std::string_view key, std::optional<double>& value) {
  const TomlEntry* entry = table.Find(key);
  if (entry == nullptr) return;
  const auto* text = entry->value.As<std::string>();
  value = text != nullptr && *text == "off" ? std::nullopt : table.Number(key, kLeastPart, 1);
}

AutoscaleSettings ReadAutoscaleTable(TableReader& table, int max_instances) {
  AutoscaleSettings scale;
  scale.max = static_cast<int>(table.Integer("max", 1, kMaxInstances).value_or(max_instances));
  scale.min = static_cast<int>(table.Integer("min", 0, kMaxInstances).value_or(scale.min));
  if (scale.max > max_instances) {
    table.Fail("max", absl::StrCat("must be at most max_instances, which is ", max_instances));
  }
  if (scale.min > scale.max) {
    table.Fail("min", absl::StrCat("must be at most max, which is ", scale.max));
  }
  scale.target_concurrency = table.Number("target_concurrency", kMinTarget, kMaxTarget);
  scale.target_rps = table.Number("target_rps", kMinTarget, kMaxTarget);
  if (scale.target_concurrency && scale.target_rps) {
    table.Fail("target_rps", "and target_concurrency exclude each other; leave one out");
  }
  scale.target_utilization =
      table.Number("target_utilization", kLeastPart, 1).value_or(scale.target_utilization);
  ReadPart(table, "target_cpu", scale.target_cpu);
  ReadPart(table, "target_memory", scale.target_memory);
  scale.window = ReadSeconds(table, "window", kMinWindow).value_or(scale.window);
  scale.panic_window_percentage =
      table.Number("panic_window_percentage", 1, 100).value_or(scale.panic_window_percentage);
  scale.panic_threshold =
      table.Number("panic_threshold", 110, 1000).value_or(scale.panic_threshold);
  scale.max_scale_up_rate =
      table.Number("max_scale_up_rate", kMinRate, kMaxTarget).value_or(scale.max_scale_up_rate);
  scale.max_scale_down_rate =
      table.Number("max_scale_down_rate", kMinRate, kMaxTarget).value_or(scale.max_scale_down_rate);
  scale.activation_scale = static_cast<int>(
      table.Integer("activation_scale", 1, kMaxInstances).value_or(scale.activation_scale));
  scale.scale_down_delay =
      ReadSeconds(table, "scale_down_delay", Duration::zero()).value_or(scale.scale_down_delay);
  return scale;
}

// `autoscale = true`, or a table of its own.
void ReadAutoscale(TableReader& file, ClassConfig& config) {
  const TomlEntry* entry = file.Find("autoscale");
  if (entry == nullptr) return;
  if (const auto* on = entry->value.As<bool>()) {
    if (*on) config.autoscale = AutoscaleSettings{.max = config.max_instances};
  } else if (std::optional<TableReader> table = file.Table("autoscale")) {
    config.autoscale = ReadAutoscaleTable(*table, config.max_instances);
    table->Finish(&file);
  }
}

void ReadRouting(TableReader& file, ClassConfig& config) {
  ReadAutoscale(file, config);
  // By default no more than may live at a time.
  config.route_instances = std::min(config.route_instances, config.max_instances);
  if (std::optional<TableReader> route = file.Table("route")) {
    const std::optional<RoutePolicy> policy = route->Choice<RoutePolicy>(
        "policy", {{"random", RoutePolicy::kRandom}, {"nearest", RoutePolicy::kNearest}});
    if (policy == RoutePolicy::kRandom && config.autoscale) {
      route->Fail("policy", "must be \"nearest\" where autoscale is on; leave it out");
    }
    config.route_policy = policy.value_or(config.route_policy);
    if (auto instances = route->Integer("instances", 1, kMaxInstances)) {
      config.route_instances = static_cast<int>(*instances);
      if (config.route_instances > config.max_instances) {
        route->Fail("instances", absl::StrCat("must be at most max_instances, which is ",
                                              config.max_instances, ", or not all can be awake"));
      }
      if (config.autoscale) {
        route->Fail("instances", "is the autoscaler's to say; set max in [autoscale]");
      }
    }
    route->Finish(&file);
  }
  if (config.autoscale) {
    config.route_policy = RoutePolicy::kNearest;
    config.route_instances = config.autoscale->max;
  }
  if (auto limit = file.Integer("max_concurrency", 1, kMaxConcurrency)) {
    config.max_concurrency = static_cast<int>(*limit);
  }
  if (std::optional<TableReader> network = file.Table("network")) {
    config.internet = network->Bool("internet").value_or(config.internet);
    network->Finish(&file);
  }
}

// Which of its checks [readiness] asks for: one at most.
void ReadCheck(TableReader& table, ReadinessConfig& readiness) {
  using Check = ReadinessConfig::Check;
  if (auto path = table.String("http")) {
    readiness.check = Check::kHttp;
    readiness.http_path = *path;
    const bool bad = !path->starts_with('/') ||
                     path->find_first_of(std::string_view(" \t\r\n#\0", 6)) != std::string::npos;
    if (bad) table.Fail("http", "must be a path, written like \"/healthz\"");
  }
  if (auto command = table.Strings("exec")) {
    if (command->empty() || command->front().empty()) table.Fail("exec", "must name a program");
    if (readiness.check != Check::kListening) table.Fail("exec", "and http exclude each other");
    readiness.check = Check::kExec;
    readiness.exec = *std::move(command);
  }
  if (table.Bool("tcp").value_or(false)) {
    if (readiness.check != Check::kListening) {
      table.Fail("tcp", "is one check, and another is given; leave one out");
    }
    readiness.check = Check::kTcp;
  }
}

void ReadReadiness(TableReader& file, ReadinessConfig& readiness) {
  std::optional<TableReader> table = file.Table("readiness");
  if (!table) return;
  ReadCheck(*table, readiness);
  const bool has_port = table->Find("port") != nullptr;
  if (auto port = table->Integer("port", 1, kMaxPort)) {
    readiness.port = static_cast<uint16_t>(*port);
  }
  using Check = ReadinessConfig::Check;
  if (has_port && readiness.check != Check::kHttp && readiness.check != Check::kTcp) {
    table->Fail("port", "is of no use without http or tcp");
  }
  readiness.interval = table->Interval("interval", kShortest).value_or(readiness.interval);
  readiness.timeout = table->Interval("timeout", kShortest).value_or(readiness.timeout);
  const auto in_a_row = [&](std::string_view key, int value) {
    return static_cast<int>(table->Integer(key, 1, kMaxInARow).value_or(value));
  };
  readiness.failures = in_a_row("failures", readiness.failures);
  readiness.successes = in_a_row("successes", readiness.successes);
  if (auto restart = table->Integer("restart_after", 1, kMaxInARow)) {
    readiness.restart_after = static_cast<int>(*restart);
  }
  readiness.max_cpu = table->Number("max_cpu", kLeastPart, 1).value_or(readiness.max_cpu);
  readiness.max_memory = table->Number("max_memory", kLeastPart, 1).value_or(readiness.max_memory);
  table->Finish(&file);
}

// The port of a check is the default one unless it is given.
void SettleCheckPort(TableReader& file, ClassConfig& config) {
  ReadinessConfig& readiness = config.readiness;
  using Check = ReadinessConfig::Check;
  if (readiness.check != Check::kHttp && readiness.check != Check::kTcp) return;
  if (readiness.port == 0) readiness.port = config.default_port.value_or(0);
  if (readiness.port == 0) file.Fail("readiness", "needs a port to check; the class has none");
}

// What must be there, and what must fit together. Run only on values that are right by themselves.
void CheckWhole(TableReader& file, const ClassConfig& config) {
  if (config.name.empty()) file.Fail("name", "is missing; write it like name = \"web\"");
  if (config.image.empty()) file.Fail("image", "is missing; write it like image = \"demo:latest\"");
  if (!config.ports.empty() && !config.default_port) {
    file.Fail("default_port", "is missing; a class with a [[port]] needs one");
  }
  if (config.IsJob() && config.autoscale) {
    file.Fail("autoscale", "needs a default_port: a job has no traffic to scale by");
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
  ReadReadiness(file, config.readiness);
  config::ReadIsolation(file, config);
  ReadRouting(file, config);
  ReadResources(file, config.resources);
  ReadPorts(file, config);
  if (config.IsJob() && file.Find("sleep_after") == nullptr) config.sleep_after = std::nullopt;
  if (config.IsJob() && file.Find("restart") == nullptr) config.restart = RestartPolicy::kNever;
  file.Finish();
  if (!errors.any()) CheckWhole(file, config);
  SettleCheckPort(file, config);
  CTR_RETURN_IF_ERROR(errors.First());
  return config;
}

}  // namespace ctr
