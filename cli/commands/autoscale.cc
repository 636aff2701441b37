#include <array>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "cli/arguments.h"
#include "cli/commands/commands.h"
#include "cli/commands/options.h"
#include "cli/trace.h"

namespace ctr::cli {
namespace {

struct Setting {
  const char* flag;
  const char* key;
  const char* type;
  const char* help;
};

constexpr std::array<Setting, 7> kSettings = {{
    {"--min", "min", "N", "instances at least (0: it sleeps when idle)"},
    {"--max", "max", "N", "instances at most (default: max_instances)"},
    {"--target-concurrency", "target_concurrency", "X",
     "requests in flight in one instance (default 50)"},
    {"--target-rps", "target_rps", "X", "requests a second in one instance, instead"},
    {"--target-cpu", "target_cpu", "PART", "of an instance's CPU limit, or off (default 0.7)"},
    {"--target-memory", "target_memory", "PART",
     "of an instance's memory limit, or off (default 0.8)"},
    {"--window", "window", "DURATION", "what the traffic is averaged over (default 60s)"},
}};

constexpr size_t kMaxTraceBytes = size_t{512} << 20;

struct OnFlags {
  std::string class_name;
  std::map<std::string, std::string> values;  // by key
  std::vector<std::string> set;
};

// Of each request that names a class.
template <typename Request>
Status SetClass(const std::string& name, const Context& context, Request& request) {
  request.set_class_(name.empty() ? context.settings().class_name : name);
  return CheckUtf8(request.class_(), "the class's name");
}

int PrintSet(const v1::SetAutoscaleRequest& request, Context& context) {
  StatusOr<v1::ApplyClassResponse> response = context.Call(&Client::Stub::SetAutoscale, request);
  if (!response.ok()) return context.Fail(response.status());
  const v1::Class& class_ = response->class_();
  if (context.json()) return context.PrintJson(ToDetailedJson(class_));
  const bool same = response->result() == v1::ApplyClassResponse::RESULT_UNCHANGED;
  const bool name_alone = context.settings().output == Output::kName;
  return context.PrintLine(NameOfClass(class_.name()) + (name_alone ? ""
                                                         : same     ? " unchanged"
                                                                    : " configured"));
}

// Of SetAutoscaleRequest and SimulateAutoscaleRequest, which have the same two.
template <typename Request>
Status SetSettings(const OnFlags& flags, const Context& context, Request& request) {
  CTR_RETURN_IF_ERROR(SetClass(flags.class_name, context, request));
  auto& settings = *request.mutable_settings();
  for (const auto& [key, value] : flags.values) {
    if (!value.empty()) settings[key] = value;
  }
  for (const std::string& pair : flags.set) {
    const size_t equals = pair.find('=');
    if (equals == std::string::npos || equals == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("--set ", pair, ": write it like --set scale_down_delay=1m"));
    }
    settings[pair.substr(0, equals)] = pair.substr(equals + 1);
  }
  for (const auto& [key, value] : settings) {
    CTR_RETURN_IF_ERROR(CheckUtf8(key + value, "the setting"));
  }
  return absl::OkStatus();
}

int On(const OnFlags& flags, Context& context) {
  v1::SetAutoscaleRequest request;
  request.set_on(true);
  if (Status set = SetSettings(flags, context, request); !set.ok()) return context.Fail(set);
  return PrintSet(request, context);
}

int Off(const std::string& class_name, Context& context) {
  v1::SetAutoscaleRequest request;
  if (Status set = SetClass(class_name, context, request); !set.ok()) return context.Fail(set);
  return PrintSet(request, context);
}

Json ParsedOrNull(const std::string& text) {
  Json json = Json::parse(text, nullptr, false);
  return json.is_discarded() ? Json() : json;
}

Json JsonOf(const v1::AutoscaleStatus& status) {
  Json json;
  json["class"] = status.class_();
  json["on"] = status.on();
  json["desired"] = status.desired();
  json["live"] = status.live();
  json["healthy"] = status.healthy();
  json["queued"] = status.queued();
  json["mode"] = status.panic() ? "panic" : "stable";
  json["bound"] = status.bound().empty() ? Json() : Json(status.bound());
  json["reason"] = status.reason();
  json["settings"] = ParsedOrNull(status.settings_json());
  json["signals"] = Json::array();
  for (const auto& signal : status.signals()) {
    json["signals"].push_back({{"name", signal.name()},
                               {"value", signal.value()},
                               {"target", signal.target()},
                               {"wish", signal.has_wish() ? Json(signal.wish()) : Json()},
                               {"text", signal.text()}});
  }
  json["decisions"] = Json::array();
  for (const auto& told : status.decisions()) {
    json["decisions"].push_back({{"time", FormatTime(told.time_ms())},
                                 {"desired", told.desired()},
                                 {"reason", told.reason()}});
  }
  return json;
}

std::string TextOf(const v1::AutoscaleStatus& status) {
  if (!status.on()) return absl::StrCat("class/", status.class_(), ": autoscale is off\n");
  std::string text =
      absl::StrCat("class/", status.class_(), ": ", status.desired(), " wanted, ", status.live(),
                   " live, ", status.healthy(), " healthy, ", status.queued(),
                   " requests waiting; ", status.panic() ? "panic" : "stable",
                   status.bound().empty() ? "" : absl::StrCat("; bound: ", status.bound()), "\n");
  if (!status.reason().empty()) absl::StrAppend(&text, Printable(status.reason()), "\n");
  if (!status.signals().empty()) absl::StrAppend(&text, "\n");
  for (const auto& signal : status.signals()) {
    absl::StrAppend(&text, "  ", Printable(signal.text()), "\n");
  }
  if (!status.decisions().empty()) absl::StrAppend(&text, "\nLast decisions:\n");
  constexpr int kShown = 10;
  for (int i = std::max(0, status.decisions_size() - kShown); i < status.decisions_size(); ++i) {
    const auto& told = status.decisions(i);
    absl::StrAppend(&text, "  ", FormatTime(told.time_ms()), "  ", told.desired(), "  ",
                    Printable(told.reason()), "\n");
  }
  return text;
}

int StatusOf(const std::string& class_name, Context& context) {
  v1::GetAutoscaleRequest request;
  if (Status set = SetClass(class_name, context, request); !set.ok()) return context.Fail(set);
  StatusOr<v1::AutoscaleStatus> status = context.Call(&Client::Stub::GetAutoscale, request);
  if (!status.ok()) return context.Fail(status.status());
  if (context.json()) return context.PrintJson(JsonOf(*status));
  if (context.settings().output == Output::kName) {
    return context.PrintLine(NameOfClass(status->class_()));
  }
  return context.PrintText(TextOf(*status));
}

struct SimulateFlags {
  OnFlags policy;
  std::string trace;
  double start_seconds = 0;
  uint32_t instances = 0;
};

Status ReadTrace(const std::string& path, const Context& context,
                 v1::SimulateAutoscaleRequest& request) {
  CTR_ASSIGN_OR_RETURN(const std::string text, ReadText(path, context.io().input, kMaxTraceBytes));
  StatusOr<std::vector<v1::SimulateAutoscaleRequest::Row>> rows =
      ParseTrace(text, request.class_());
  if (!rows.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", rows.status().message()));
  }
  for (v1::SimulateAutoscaleRequest::Row& row : *rows) *request.add_rows() = std::move(row);
  return absl::OkStatus();
}

Json JsonOf(const v1::SimulateAutoscaleResponse& response) {
  Json json;
  json["requests"] = response.requests();
  json["completed"] = response.completed();
  json["waited"] = response.waited();
  json["worst_wait_ms"] = response.worst_wait_ms();
  json["latency_p50_ms"] = response.latency_p50_ms();
  json["latency_p99_ms"] = response.latency_p99_ms();
  json["instance_seconds"] = response.instance_seconds();
  json["ideal_instance_seconds"] = response.ideal_instance_seconds();
  json["starts"] = response.starts();
  json["most"] = response.most();
  json["start_seconds"] = response.start_seconds();
  json["settings"] = ParsedOrNull(response.settings_json());
  json["step_seconds"] = response.step_seconds();
  json["steps"] = Json::array();
  for (const auto& step : response.steps()) {
    json["steps"].push_back(
        {{"second", step.second()},
         {"arrivals", step.arrivals()},
         {"waited", step.waited()},
         {"completed", step.completed()},
         {"desired", step.desired()},
         {"ready", step.ready()},
         {"starting", step.starting()},
         {"draining", step.draining()},
         {"queued", step.queued()},
         {"in_flight", step.in_flight()},
         {"latency_p50_ms", step.has_latency_p50_ms() ? Json(step.latency_p50_ms()) : Json()},
         {"latency_p99_ms", step.has_latency_p99_ms() ? Json(step.latency_p99_ms()) : Json()},
         {"panic", step.panic()},
         {"reason", step.reason()}});
  }
  return json;
}

std::string TextOf(const v1::SimulateAutoscaleResponse& response, Style style) {
  constexpr int kLines = 60;
  const int every = std::max(1, (response.steps_size() + kLines - 1) / kLines);
  Table table({"SECOND", "ARRIVALS", "IN-FLIGHT", "QUEUED", "WANTED", "READY", "STARTING", "P99-MS",
               "MODE"});
  for (int i = 0; i < response.steps_size(); i += every) {
    const auto& step = response.steps(i);
    table.Add({{absl::StrCat(step.second())},
               {absl::StrCat(step.arrivals())},
               {absl::StrFormat("%.1f", step.in_flight())},
               {absl::StrCat(step.queued())},
               {absl::StrCat(step.desired())},
               {absl::StrCat(step.ready())},
               {absl::StrCat(step.starting())},
               {step.has_latency_p99_ms() ? absl::StrFormat("%.1f", step.latency_p99_ms()) : ""},
               {step.panic() ? "panic" : "stable"}});
  }
  const double ideal = response.ideal_instance_seconds();
  return absl::StrCat(
      table.Render(style), "\n", response.requests(), " requests, ", response.waited(), " waited (",
      absl::StrFormat("%.0f", response.worst_wait_ms()), " ms at most); latency p50 ",
      absl::StrFormat("%.1f", response.latency_p50_ms()), " ms, p99 ",
      absl::StrFormat("%.1f", response.latency_p99_ms()), " ms\n", response.starts(), " starts of ",
      absl::StrFormat("%.2f", response.start_seconds()), " s, ", response.most(),
      " instances at most; ", absl::StrFormat("%.0f", response.instance_seconds()),
      " instance-seconds, ",
      ideal > 0 ? absl::StrFormat("%.2f", response.instance_seconds() / ideal) : "-",
      " times the ideal ", absl::StrFormat("%.0f", ideal), "\n");
}

int Simulate(const SimulateFlags& flags, Context& context) {
  v1::SimulateAutoscaleRequest request;
  if (Status set = SetSettings(flags.policy, context, request); !set.ok()) return context.Fail(set);
  if (Status read = ReadTrace(flags.trace, context, request); !read.ok()) {
    return context.Fail(read);
  }
  request.set_start_seconds(flags.start_seconds);
  request.set_instances(flags.instances);
  StatusOr<v1::SimulateAutoscaleResponse> response =
      context.Call(&Client::Stub::SimulateAutoscale, request);
  if (!response.ok()) return context.Fail(response.status());
  if (context.json()) return context.PrintJson(JsonOf(*response));
  return context.PrintText(TextOf(*response, context.style()));
}

void AddPolicy(CLI::App& app, OnFlags& flags) {
  AddClass(app, flags.class_name);
  for (const Setting& setting : kSettings) {
    app.add_option(setting.flag, flags.values[setting.key], setting.help)->type_name(setting.type);
  }
  AddRepeatable(app, "--set", flags.set, "any other key of [autoscale]", "KEY=VALUE");
}

}  // namespace

Action DefineAutoscaleOn(CLI::App& app) {
  auto flags = std::make_shared<OnFlags>();
  AddPolicy(app, *flags);
  return [flags](Context& context) { return On(*flags, context); };
}

Action DefineAutoscaleSimulate(CLI::App& app) {
  auto flags = std::make_shared<SimulateFlags>();
  AddPolicy(app, flags->policy);
  app.add_option(
         "--trace", flags->trace,
         "JSON lines like {\"time\":0,\"arrivals\":10,\"service\":0.05}: seconds, requests a "
         "second, seconds that one takes; and cpu (seconds of one), memory (bytes); - for "
         "standard input")
      ->required()
      ->type_name("FILE");
  app.add_option("--start-time", flags->start_seconds,
                 "seconds of a start (default: as the class's have taken, else 1)")
      ->type_name("SECONDS");
  app.add_option("--instances", flags->instances, "that are healthy at the beginning")
      ->type_name("N");
  return [flags](Context& context) { return Simulate(*flags, context); };
}

Action DefineAutoscaleOff(CLI::App& app) {
  auto name = std::make_shared<std::string>();
  AddClass(app, *name);
  return [name](Context& context) { return Off(*name, context); };
}

Action DefineAutoscaleStatus(CLI::App& app) {
  auto name = std::make_shared<std::string>();
  AddClass(app, *name);
  return [name](Context& context) { return StatusOf(*name, context); };
}

}  // namespace ctr::cli
