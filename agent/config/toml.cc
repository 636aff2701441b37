#include "agent/config/toml.h"

#include <utility>

#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>

#include "absl/strings/str_cat.h"

namespace ctr::config {
namespace {

TomlTable Convert(const toml::table& table);

TomlValue Convert(const toml::node& node) {
  TomlValue value;
  value.line = static_cast<int>(node.source().begin.line);
  if (const toml::table* table = node.as_table()) {
    value.data = Convert(*table);
  } else if (const toml::array* array = node.as_array()) {
    TomlArray items;
    for (const toml::node& item : *array) items.push_back(Convert(item));
    value.data = std::move(items);
  } else if (const auto* text = node.as_string()) {
    value.data = text->get();
  } else if (const auto* integer = node.as_integer()) {
    value.data = integer->get();
  } else if (const auto* number = node.as_floating_point()) {
    value.data = number->get();
  } else if (const auto* truth = node.as_boolean()) {
    value.data = truth->get();
  } else {
    value.data = TomlDateOrTime();
  }
  return value;
}

TomlTable Convert(const toml::table& table) {
  TomlTable entries;
  for (const auto& [key, node] : table) {
    entries.push_back(
        {std::string(key.str()), static_cast<int>(key.source().begin.line), Convert(node)});
  }
  return entries;
}

}  // namespace

StatusOr<TomlTable> ParseToml(std::string_view text, std::string_view file_name) {
  toml::parse_result result = toml::parse(text);
  if (!result) {
    const toml::parse_error& error = result.error();
    return absl::InvalidArgumentError(absl::StrCat(std::string(file_name), ":",
                                                   error.source().begin.line, ": ",
                                                   std::string(error.description())));
  }
  return Convert(result.table());
}

}  // namespace ctr::config
