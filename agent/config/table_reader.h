#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "agent/base/error.h"
#include "agent/base/time.h"
#include "agent/config/toml.h"

namespace ctr::config {

// The errors of one file. The one that stands first in the file is reported.
class FileErrors {
 public:
  explicit FileErrors(std::string_view file_name) : file_name_(file_name) {}

  // `line` 0: about what is missing; reported only if nothing else is wrong.
  void Add(int line, std::string_view message);
  bool any() const { return !message_.empty(); }
  // INVALID_ARGUMENT "FILE:LINE: message", or OK.
  Status First() const;

 private:
  const std::string file_name_;
  int line_ = std::numeric_limits<int>::max();
  std::string message_;
};

// One word that a key takes.
template <typename T>
struct Word {
  std::string_view word;
  T value;
};

// Reads one table key by key. Each method gives nothing if the key is not there, and also if it is
// wrong, which FileErrors then knows. In the end Finish() refuses the keys nobody asked for. The
// table and FileErrors outlive it.
class TableReader {
 public:
  // `name`: dotted, as "resources"; "" for the top level. `line`: where the table begins.
  TableReader(const TomlTable& table, std::string name, int line, FileErrors& errors);

  std::optional<std::string> String(std::string_view key);
  std::optional<bool> Bool(std::string_view key);
  std::optional<int64_t> Integer(std::string_view key, int64_t min, int64_t max);
  std::optional<double> Number(std::string_view key, double min, double max);
  // Text as ParseDuration takes it, or a number of seconds.
  std::optional<Duration> Interval(std::string_view key, Duration min);
  // Bytes, of text as ParseMemorySize takes it.
  std::optional<int64_t> Size(std::string_view key, int64_t min);
  std::optional<std::vector<std::string>> Strings(std::string_view key);
  std::optional<std::vector<int64_t>> Integers(std::string_view key, int64_t min, int64_t max);
  std::optional<std::map<std::string, std::string>> StringMap(std::string_view key);
  std::optional<TableReader> Table(std::string_view key);
  std::vector<TableReader> Tables(std::string_view key);
  template <typename T>
  std::optional<T> Choice(std::string_view key, const std::vector<Word<T>>& words);

  // Refuses every key that was not read. `outer`: the table that a misplaced key may be meant for.
  void Finish(const TableReader* outer = nullptr) const;

  // The raw entry, which counts as read.
  const TomlEntry* Find(std::string_view key);
  // Reports `message` on `key`, which may be missing.
  void Fail(std::string_view key, std::string_view message);
  void Fail(const TomlEntry& entry, std::string_view message) {
    FailAt(entry.line, entry.key, message);
  }

 private:
  std::string FullName(std::string_view key) const;
  void FailAt(int line, std::string_view key, std::string_view message);
  void WrongType(const TomlEntry& entry, const TomlValue& value, std::string_view wanted);
  std::optional<int64_t> CheckInteger(const TomlEntry& entry, const TomlValue& value, int64_t min,
                                      int64_t max);
  std::string Suggestion(std::string_view key) const;
  bool Knows(std::string_view key) const;

  const TomlTable* table_;
  std::string name_;
  int line_;
  FileErrors* errors_;
  std::vector<std::string> known_;
};

template <typename T>
std::optional<T> TableReader::Choice(std::string_view key, const std::vector<Word<T>>& words) {
  const TomlEntry* entry = Find(key);
  if (entry == nullptr) return std::nullopt;
  const auto* text = entry->value.As<std::string>();
  std::vector<std::string> quoted;
  for (const Word<T>& word : words) {
    if (text != nullptr && *text == word.word) return word.value;
    quoted.push_back(absl::StrCat("\"", std::string(word.word), "\""));
  }
  WrongType(*entry, entry->value, absl::StrJoin(quoted, " or "));
  return std::nullopt;
}

}  // namespace ctr::config
