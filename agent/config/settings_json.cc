#include <signal.h>
#include <string.h>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "agent/base/duration.h"
#include "agent/config/class_file.h"
#include "agent/config/memory_size.h"

namespace ctr {
namespace {

using Json = nlohmann::ordered_json;

const char* Name(Protocol protocol) { return protocol == Protocol::kHttp ? "http" : "tcp"; }

template <typename T>
Json OrNull(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

std::string SignalName(int signal) {
  const char* abbreviation = ::sigabbrev_np(signal);
  if (abbreviation != nullptr) return absl::StrCat("SIG", abbreviation);
  return signal >= SIGRTMIN ? absl::StrCat("SIGRTMIN+", signal - SIGRTMIN) : absl::StrCat(signal);
}

Json ExtraPorts(const ClassConfig& config) {
  Json ports = Json::array();
  for (const PortConfig& port : config.ports) {
    if (port.port == config.default_port) continue;
    ports.push_back({{"port", port.port}, {"protocol", Name(port.protocol)}});
  }
  return ports;
}

const char* Name(RestartPolicy policy) {
  switch (policy) {
    case RestartPolicy::kNever:
      return "never";
    case RestartPolicy::kOnFailure:
      return "on-failure";
    case RestartPolicy::kAlways:
      return "always";
  }
  return "";
}

const char* Name(PullPolicy policy) {
  switch (policy) {
    case PullPolicy::kMissing:
      return "missing";
    case PullPolicy::kNever:
      return "never";
    case PullPolicy::kAlways:
      return "always";
  }
  return "";
}

Json HookJson(const std::vector<std::string>& command) {
  return command.empty() ? Json() : Json(command);
}

Json HooksJson(const Hooks& hooks) {
  return {{"on_start", HookJson(hooks.on_start)},
          {"on_stop", HookJson(hooks.on_stop)},
          {"on_error", HookJson(hooks.on_error)},
          {"on_activity_expired", HookJson(hooks.on_activity_expired)}};
}

Json ResourcesJson(const Resources& resources) {
  Json json;
  json["cpus"] = OrNull(resources.cpus);
  json["memory"] =
      resources.memory_bytes ? Json(FormatMemorySize(*resources.memory_bytes)) : Json();
  json["pids"] = resources.pids;
  json["disk"] = resources.disk_bytes ? FormatMemorySize(*resources.disk_bytes) : "off";
  return json;
}

Json PartJson(const std::optional<double>& part) { return part ? Json(*part) : Json("off"); }

Json AutoscaleJson(const AutoscaleSettings& scale) {
  Json json;
  json["min"] = scale.min;
  json["max"] = scale.max;
  if (scale.target_rps) {
    json["target_rps"] = *scale.target_rps;
  } else {
    json["target_concurrency"] = scale.target_concurrency.value_or(kDefaultTargetConcurrency);
  }
  json["target_utilization"] = scale.target_utilization;
  json["target_cpu"] = PartJson(scale.target_cpu);
  json["target_memory"] = PartJson(scale.target_memory);
  json["window"] = FormatDuration(scale.window);
  json["panic_window_percentage"] = scale.panic_window_percentage;
  json["panic_threshold"] = scale.panic_threshold;
  json["max_scale_up_rate"] = scale.max_scale_up_rate;
  json["max_scale_down_rate"] = scale.max_scale_down_rate;
  json["activation_scale"] = scale.activation_scale;
  json["scale_down_delay"] = FormatDuration(scale.scale_down_delay);
  return json;
}

Json ReadinessJson(const ReadinessConfig& readiness) {
  using Check = ReadinessConfig::Check;
  Json json;
  if (readiness.check == Check::kHttp) json["http"] = readiness.http_path;
  if (readiness.check == Check::kExec) json["exec"] = readiness.exec;
  if (readiness.check == Check::kTcp) json["tcp"] = true;
  if (readiness.port != 0) json["port"] = readiness.port;
  json["interval"] = FormatDuration(readiness.interval);
  json["timeout"] = FormatDuration(readiness.timeout);
  json["failures"] = readiness.failures;
  json["successes"] = readiness.successes;
  json["restart_after"] = OrNull(readiness.restart_after);
  json["max_cpu"] = readiness.max_cpu;
  json["max_memory"] = readiness.max_memory;
  return json;
}

Json VolumesJson(const std::vector<Volume>& volumes) {
  Json array = Json::array();
  for (const Volume& volume : volumes) {
    Json json;
    json["path"] = volume.path;
    if (volume.host.empty()) {
      json["tmpfs"] = true;
      json["size"] = FormatMemorySize(volume.size_bytes);
    } else {
      json["host"] = volume.host;
      json["read_only"] = volume.read_only;
    }
    array.push_back(std::move(json));
  }
  return array;
}

Json SecurityJson(const Security& security) {
  const auto confined = [](bool is) { return is ? "default" : "unconfined"; };
  Json json;
  json["cap_add"] = security.cap_add;
  json["cap_drop"] = security.cap_drop;
  json["seccomp"] = confined(security.seccomp);
  json["apparmor"] = security.apparmor.empty() ? "default" : security.apparmor;
  json["no_new_privileges"] = security.no_new_privileges;
  json["systempaths"] = confined(security.masked_paths);
  return json;
}

}  // namespace

std::string SettingsJson(const ClassConfig& config) {
  const PortConfig* port = config.default_port ? config.FindPort(*config.default_port) : nullptr;
  Json json;
  json["name"] = config.name;
  json["image"] = config.image;
  json["pull_policy"] = Name(config.pull_policy);
  json["image_digest"] = config.image_digest.empty() ? Json() : Json(config.image_digest);
  json["default_port"] = OrNull(config.default_port);
  json["default_protocol"] = port != nullptr ? Json(Name(port->protocol)) : Json();
  json["required_ports"] = config.required_ports;
  json["entrypoint"] = OrNull(config.entrypoint);
  json["user"] = OrNull(config.user);
  json["workdir"] = OrNull(config.workdir);
  json["env"] = config.env;
  json["labels"] = config.labels;
  json["sleep_after"] = config.sleep_after ? FormatDuration(*config.sleep_after) : "never";
  json["tcp_idle"] =
      config.tcp_idle ? FormatDuration(*config.tcp_idle) : json["sleep_after"].get<std::string>();
  json["manual_start"] = config.manual_start;
  json["create"] = config.create == CreateBy::kGet ? "get" : "request";
  json["max_instances"] = config.max_instances;
  json["max_concurrency"] = OrNull(config.max_concurrency);
  json["start_timeout"] = FormatDuration(config.start_timeout);
  json["stop_signal"] = config.stop_signal ? Json(SignalName(*config.stop_signal)) : Json();
  json["stop_grace"] = FormatDuration(config.stop_grace);
  json["drain"] = FormatDuration(config.drain);
  json["response_timeout"] =
      config.response_timeout ? FormatDuration(*config.response_timeout) : "never";
  json["restart"] = Name(config.restart);
  json["busy_cpu"] = OrNull(config.busy_cpu);
  json["disk"] = config.disk == Disk::kKeep ? "keep" : "ephemeral";
  json["read_only"] = config.read_only;
  json["nofile"] = config.nofile;
  json["dial"] = config.dial == Dial::kPrivate ? "private" : "loopback";
  json["autoscale"] = config.autoscale ? AutoscaleJson(*config.autoscale) : Json(false);
  json["readiness"] = ReadinessJson(config.readiness);
  json["port"] = ExtraPorts(config);
  json["resources"] = ResourcesJson(config.resources);
  json["volume"] = VolumesJson(config.volumes);
  json["security"] = SecurityJson(config.security);
  json["hooks"] = HooksJson(config.hooks);
  json["log"] = {{"max_size", FormatMemorySize(config.log.max_size_bytes)},
                 {"files", config.log.files}};
  json["route"] = {{"policy", config.route_policy == RoutePolicy::kRandom ? "random" : "nearest"},
                   {"instances", config.route_instances}};
  json["network"] = {{"internet", config.internet}};
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string AutoscaleJsonText(const AutoscaleSettings& scale) {
  return AutoscaleJson(scale).dump();
}

}  // namespace ctr
