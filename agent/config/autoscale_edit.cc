#include "agent/config/autoscale_edit.h"

#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "agent/config/class_file.h"
#include "agent/config/toml.h"

namespace ctr {
namespace {

constexpr char kFile[] = "autoscale";

// `5`, `0.7` and `true` are written as they are, words and durations in quotes.
std::string TomlOf(const std::string& value) {
  double number = 0;
  if (value == "true" || value == "false" || absl::SimpleAtod(value, &number)) return value;
  std::string quoted = "\"";
  for (char c : value) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += static_cast<unsigned char>(c) < ' ' ? '?' : c;
  }
  return quoted + "\"";
}

std::string TextOf(const config::TomlValue& value) {
  if (const auto* text = value.As<std::string>()) return *text;
  if (const auto* integer = value.As<int64_t>()) return absl::StrCat(*integer);
  if (const auto* number = value.As<double>()) return absl::StrCat(*number);
  return "";
}

std::map<std::string, std::string> SettingsIn(const config::TomlTable& file) {
  std::map<std::string, std::string> settings;
  for (const config::TomlEntry& entry : file) {
    const auto* table = entry.value.As<config::TomlTable>();
    if (entry.key != "autoscale" || table == nullptr) continue;
    for (const config::TomlEntry& setting : *table) settings[setting.key] = TextOf(setting.value);
  }
  return settings;
}

bool BeginsWithKey(absl::string_view line, absl::string_view key) {
  line = absl::StripLeadingAsciiWhitespace(line);
  return absl::ConsumePrefix(&line, key) &&
         absl::StartsWith(absl::StripLeadingAsciiWhitespace(line), "=");
}

// Without the lines of `autoscale = …` before any table, and of the table [autoscale].
std::string WithoutAutoscale(std::string_view source) {
  std::vector<std::string> kept;
  bool top = true;
  bool ours = false;
  for (absl::string_view line :
       absl::StrSplit(absl::string_view(source.data(), source.size()), '\n')) {
    const absl::string_view text = absl::StripAsciiWhitespace(line);
    if (absl::StartsWith(text, "[")) {
      top = false;
      ours = absl::StartsWith(text, "[autoscale]");
    }
    if (!ours && !(top && BeginsWithKey(line, "autoscale"))) kept.emplace_back(line);
  }
  while (!kept.empty() && kept.back().empty()) kept.pop_back();
  std::string text;
  for (const std::string& line : kept) absl::StrAppend(&text, line, "\n");
  return text;
}

}  // namespace

StatusOr<std::string> WithAutoscale(std::string_view source, bool on,
                                    const std::map<std::string, std::string>& settings) {
  CTR_ASSIGN_OR_RETURN(const ClassConfig before, ParseClassFile(source, kFile));
  CTR_ASSIGN_OR_RETURN(const config::TomlTable table, config::ParseToml(source, kFile));
  std::string edited = WithoutAutoscale(source);
  if (on) {
    std::map<std::string, std::string> all = SettingsIn(table);
    if (settings.contains("target_rps")) all.erase("target_concurrency");
    if (settings.contains("target_concurrency")) all.erase("target_rps");
    for (const auto& [key, value] : settings) all[key] = value;
    absl::StrAppend(&edited, "\n[autoscale]\n");
    for (const auto& [key, value] : all) {
      if (key.find_first_not_of("abcdefghijklmnopqrstuvwxyz_") != std::string::npos) {
        return absl::InvalidArgumentError(absl::StrCat("unknown key \"", key, "\""));
      }
      absl::StrAppend(&edited, key, " = ", TomlOf(value), "\n");
    }
  }
  StatusOr<ClassConfig> after = ParseClassFile(edited, kFile);
  if (!after.ok()) {
    // The line is one of a text that nobody has seen.
    absl::string_view why = after.status().message();
    why = why.substr(why.find(": ") + 2);
    absl::ConsumePrefix(&why, "autoscale.");
    return absl::InvalidArgumentError(std::string(why));
  }
  ClassConfig same = before;
  same.autoscale = after->autoscale;
  same.route_policy = after->route_policy;
  same.route_instances = after->route_instances;
  if (after->autoscale.has_value() == on && *after == same) return edited;
  return absl::InvalidArgumentError(
      "the class file writes [autoscale] in a way that is not understood here; change it there, "
      "and apply it");
}

}  // namespace ctr
