#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "agent/base/error.h"

namespace ctr::config {

struct TomlValue;
struct TomlEntry;
using TomlArray = std::vector<TomlValue>;
using TomlTable = std::vector<TomlEntry>;
struct TomlDateOrTime {};

// What a TOML file says, as plain values with their lines, so that toml.cc alone sees toml++.
struct TomlValue {
  int line = 0;
  std::variant<std::string, int64_t, double, bool, TomlArray, TomlTable, TomlDateOrTime> data;

  template <typename T>
  const T* As() const {
    return std::get_if<T>(&data);
  }
};

struct TomlEntry {
  std::string key;
  int line = 0;  // of the key
  TomlValue value;
};

// A message, whatever the file's strings hold.
std::string OneLine(std::string text);

// The top-level table. INVALID_ARGUMENT "FILE:LINE: what is wrong" if it is no TOML.
StatusOr<TomlTable> ParseToml(std::string_view text, std::string_view file_name);

}  // namespace ctr::config
