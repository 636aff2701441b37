#include "cli/render.h"

#include <time.h>

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "agent/base/size_text.h"

namespace ctr::cli {
namespace {

Json TimeOrNull(int64_t unix_ms) {
  return unix_ms == 0 ? Json(nullptr) : Json(FormatTime(unix_ms));
}

Json SettingsOf(const v1::Class& class_) {
  Json settings = Json::parse(class_.settings_json(), nullptr, /*allow_exceptions=*/false);
  return settings.is_object() ? settings : Json(nullptr);
}

// Every declared port, the default one first.
Json Ports(const v1::Class& class_, const Json& settings) {
  Json ports = Json::array();
  auto add = [&](const Json& port, const Json& protocol) {
    for (const Json& known : ports) {
      if (known["port"] == port) return;
    }
    ports.push_back(Json{{"port", port}, {"protocol", protocol}});
  };
  if (class_.default_port() != 0) add(class_.default_port(), class_.default_protocol());
  if (!settings.is_object() || !settings.contains("port") || !settings["port"].is_array()) {
    return ports;
  }
  for (const Json& declared : settings["port"]) {
    if (!declared.is_object() || !declared.contains("port")) continue;
    add(declared["port"], declared.value("protocol", Json("http")));
  }
  return ports;
}

// In the order of their names.
Json LiveRevisions(const v1::Class& class_) {
  const std::map<std::string, uint32_t> sorted(class_.live_revisions().begin(),
                                               class_.live_revisions().end());
  Json revisions = Json::object();
  for (const auto& [revision, count] : sorted) revisions[revision] = count;
  return revisions;
}

Json Array(const google::protobuf::RepeatedPtrField<std::string>& words) {
  Json array = Json::array();
  for (const std::string& word : words) array.push_back(word);
  return array;
}

Json ToJson(const v1::Class& class_, const Json& settings) {
  bool job = class_.default_port() == 0;
  Json json;
  json["name"] = class_.name();
  json["address"] = TextOrNull(class_.address());
  json["url"] = TextOrNull(class_.url());
  json["image"] = class_.image();
  json["image_digest"] = TextOrNull(class_.image_digest());
  json["revision"] = TextOrNull(class_.revision());
  json["default_port"] = job ? Json(nullptr) : Json(class_.default_port());
  json["default_protocol"] = job ? Json(nullptr) : TextOrNull(class_.default_protocol());
  json["ports"] = Ports(class_, settings);
  json["instances"] = class_.instances();
  json["live_instances"] = class_.live_instances();
  json["live_revisions"] = LiveRevisions(class_);
  json["outdated_instances"] = class_.outdated_instances();
  json["loosened"] = Array(class_.loosened());
  json["applied_at"] = TimeOrNull(class_.applied_at_ms());
  return json;
}

// "12s", "3m": until then; "0s" if it has passed.
std::string FormatLeft(int64_t unix_ms, WallTime now) {
  const int64_t now_ms =
      std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count();
  const int64_t seconds = std::max<int64_t>(unix_ms - now_ms + 999, 0) / 1000;
  return seconds < 60 ? absl::StrCat(seconds, "s") : absl::StrCat((seconds + 59) / 60, "m");
}

Cell StateCell(const v1::Instance& instance) {
  const std::string& state = instance.state();
  if (state == "healthy") return {state, Colour::kGreen};
  if (state == "frozen") return {state, Colour::kCyan};
  if (state == "stopped") return {state, Colour::kDim};
  return {state, Colour::kYellow};
}

Cell RevisionCell(const v1::Instance& instance) {
  if (instance.outdated()) {
    const char* what = instance.old_image() ? " (old image)" : " (old)";
    return {instance.revision() + what, Colour::kYellow};
  }
  return {instance.revision()};
}

std::string ReasonText(const v1::Instance& instance) {
  if (instance.reason() != "exited") return instance.reason();
  return absl::StrCat("exited (", instance.exit_code(), ")");
}

Cell ReasonCell(const v1::Instance& instance, WallTime now) {
  const std::string& reason = instance.reason();
  const bool bad = reason == "oom_killed" || reason == "disk_full" || reason == "start_failed" ||
                   reason == "host_lost" || (reason == "exited" && instance.exit_code() != 0);
  std::string text = instance.overloaded() ? "overloaded" : ReasonText(instance);
  if (instance.state() == "stopped" && instance.failures() > 1) text = "crash loop: " + text;
  if (instance.next_start_at_ms() != 0) {
    absl::StrAppend(&text, text.empty() ? "" : ", ", "next start in ",
                    FormatLeft(instance.next_start_at_ms(), now));
  }
  return {text, bad ? Colour::kRed : instance.overloaded() ? Colour::kYellow : Colour::kNone};
}

std::string Dump(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace

Json ToJson(const v1::Instance& instance) {
  Json json;
  json["class"] = TextOrNull(instance.class_());
  json["id"] = instance.id();
  json["state"] = instance.state();
  json["reason"] = TextOrNull(instance.reason());
  json["exit_code"] = instance.has_exit_code() ? Json(instance.exit_code()) : Json(nullptr);
  json["url"] = TextOrNull(instance.url());
  json["address"] = TextOrNull(instance.address());
  json["generation"] = instance.generation();
  json["since"] = TimeOrNull(instance.since_ms());
  json["created_at"] = TimeOrNull(instance.created_at_ms());
  json["in_flight"] = instance.in_flight();
  json["message"] = TextOrNull(instance.message());
  json["revision"] = TextOrNull(instance.revision());
  json["outdated"] = instance.outdated();
  json["image_digest"] = TextOrNull(instance.image_digest());
  json["failures"] = instance.failures();
  json["next_start"] = TimeOrNull(instance.next_start_at_ms());
  json["overloaded"] = instance.overloaded();
  return json;
}

Json ToJson(const v1::InspectInstanceResponse& inspected) {
  Json json = ToJson(inspected.instance());
  json["image"] = TextOrNull(inspected.image());
  json["desired"] = TextOrNull(inspected.desired());
  json["container_id"] = TextOrNull(inspected.container_id());
  json["containerd_namespace"] = TextOrNull(inspected.containerd_namespace());
  json["pid"] = inspected.pid() == 0 ? Json(nullptr) : Json(inspected.pid());
  std::vector<std::pair<std::string, std::string>> variables(inspected.env().begin(),
                                                             inspected.env().end());
  std::sort(variables.begin(), variables.end());
  json["env"] = Json::object();
  for (const auto& [name, value] : variables) json["env"][name] = value;
  json["entrypoint"] = nullptr;
  for (const std::string& word : inspected.entrypoint()) json["entrypoint"].push_back(word);
  json["log_path"] = TextOrNull(inspected.log_path());
  json["last_activity"] = TimeOrNull(inspected.last_activity_ms());
  json["sleeps_at"] = TimeOrNull(inspected.sleeps_at_ms());
  return json;
}

Json ToJson(const v1::Image& image) {
  Json json;
  json["reference"] = image.reference();
  json["digest"] = TextOrNull(image.digest());
  json["size_bytes"] = image.size_bytes();
  json["created_at"] = TimeOrNull(image.created_at_ms());
  json["classes"] = Json::array();
  for (const std::string& name : image.classes()) json["classes"].push_back(name);
  return json;
}

Json ToJson(const v1::Info& info) {
  Json json;
  json["version"] = info.version();
  json["agent_id"] = info.agent_id();
  json["pid"] = info.pid();
  json["started_at"] = TimeOrNull(info.started_at_ms());
  json["data_dir"] = info.data_dir();
  json["run_dir"] = info.run_dir();
  json["http_address"] = TextOrNull(info.http_address());
  json["runtime"] = TextOrNull(info.runtime());
  json["containerd_socket"] = TextOrNull(info.containerd_socket());
  json["containerd_namespace"] = TextOrNull(info.containerd_namespace());
  json["steering"] = TextOrNull(info.steering());
  json["instance_range"] = TextOrNull(info.instance_range());
  json["class_range"] = TextOrNull(info.class_range());
  json["classes"] = info.classes();
  json["instances"] = info.instances();
  json["live_instances"] = info.live_instances();
  json["warnings"] = Array(info.warnings());
  return json;
}

Json ToJson(const v1::Class& class_) { return ToJson(class_, SettingsOf(class_)); }

Json ToDetailedJson(const v1::Class& class_) {
  Json settings = SettingsOf(class_);
  Json json = ToJson(class_, settings);
  json["settings"] = std::move(settings);
  json["source"] = class_.source();
  return json;
}

Json ToJson(const Status& error) {
  return Json{{"error", {{"code", ErrorCodeOf(error)}, {"message", std::string(error.message())}}}};
}

std::string Pretty(const Json& json) { return Dump(json, 2); }
std::string Compact(const Json& json) { return Dump(json, -1); }

std::string InstanceTable(const google::protobuf::RepeatedPtrField<v1::Instance>& instances,
                          WallTime now, Style style) {
  Table table({"INSTANCE", "STATE", "REASON", "AGE", "URL", "STARTS", "IN-FLIGHT", "REVISION"});
  for (const v1::Instance& instance : instances) {
    table.Add({{NameOf(instance)},
               StateCell(instance),
               ReasonCell(instance, now),
               {FormatAge(instance.since_ms(), now)},
               {instance.url()},
               {absl::StrCat(instance.generation())},
               {absl::StrCat(instance.in_flight())},
               RevisionCell(instance)});
  }
  return table.Render(style);
}

std::string ClassTable(const google::protobuf::RepeatedPtrField<v1::Class>& classes, WallTime now,
                       Style style) {
  Table table({"CLASS", "IMAGE", "URL", "INSTANCES", "LIVE", "AGE"});
  for (const v1::Class& class_ : classes) {
    table.Add({{class_.name()},
               {class_.image()},
               {class_.url()},
               {absl::StrCat(class_.instances())},
               {absl::StrCat(class_.live_instances())},
               {FormatAge(class_.applied_at_ms(), now)}});
  }
  return table.Render(style);
}

std::string ImageTable(const google::protobuf::RepeatedPtrField<v1::Image>& images, WallTime now,
                       Style style) {
  Table table({"IMAGE", "DIGEST", "SIZE", "AGE", "CLASSES"});
  for (const v1::Image& image : images) {
    table.Add({{image.reference()},
               {image.digest()},
               {FormatSize(image.size_bytes())},
               {FormatAge(image.created_at_ms(), now)},
               {absl::StrJoin(image.classes(), ",")}});
  }
  return table.Render(style);
}

std::string KeyValues(const Json& object) {
  size_t width = 0;
  for (const auto& [key, value] : object.items()) width = std::max(width, key.size());
  std::string out;
  for (const auto& [key, value] : object.items()) {
    std::string text = value.is_string() ? value.get<std::string>()
                       : value.is_null() ? "-"
                                         : Compact(value);
    if (!value.is_string() && !value.is_null()) text.pop_back();
    absl::StrAppend(&out, key, ":", std::string(width - key.size() + 1, ' '), Printable(text),
                    "\n");
  }
  return out;
}

std::string NameOf(const v1::Instance& instance) {
  return absl::StrCat(instance.class_(), "/", instance.id());
}

std::string NameOfClass(const std::string& name) { return absl::StrCat("class/", name); }

std::string FormatTime(int64_t unix_ms) {
  int64_t milliseconds = ((unix_ms % 1000) + 1000) % 1000;
  time_t seconds = (unix_ms - milliseconds) / 1000;
  tm utc = {};
  ::gmtime_r(&seconds, &utc);
  return absl::StrFormat("%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", utc.tm_year + 1900, utc.tm_mon + 1,
                         utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec, milliseconds);
}

std::string FormatAge(int64_t unix_ms, WallTime now) {
  if (unix_ms == 0) return "";
  WallTime then{std::chrono::milliseconds(unix_ms)};
  int64_t seconds = std::chrono::duration_cast<std::chrono::seconds>(now - then).count();
  seconds = std::max<int64_t>(seconds, 0);
  if (seconds < 60) return absl::StrCat(seconds, "s");
  if (seconds < 3600) return absl::StrCat(seconds / 60, "m");
  if (seconds < 86400) return absl::StrCat(seconds / 3600, "h");
  return absl::StrCat(seconds / 86400, "d");
}

}  // namespace ctr::cli
