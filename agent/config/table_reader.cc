#include "agent/config/table_reader.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/strings/ascii.h"
#include "agent/base/duration.h"
#include "agent/config/memory_size.h"

namespace ctr::config {
namespace {

std::string Quoted(std::string_view text) { return absl::StrCat("\"", std::string(text), "\""); }

// What stands there, for a message: the value itself if it is short, else its kind.
std::string Describe(const TomlValue& value) {
  if (const auto* text = value.As<std::string>()) {
    return text->size() <= 40 ? Quoted(*text) : "a string";
  }
  if (const auto* integer = value.As<int64_t>()) return absl::StrCat(*integer);
  if (const auto* number = value.As<double>()) return absl::StrCat(*number);
  if (const auto* truth = value.As<bool>()) return *truth ? "true" : "false";
  if (value.As<TomlArray>() != nullptr) return "an array";
  if (value.As<TomlTable>() != nullptr) return "a table";
  return "a date or time";
}

// Levenshtein's.
size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i + 1);
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, diagonal + 1});
    }
  }
  return row.back();
}

}  // namespace

void FileErrors::Add(int line, std::string_view message) {
  const int rank = line == 0 ? std::numeric_limits<int>::max() : line;
  if (any() && rank >= line_) return;
  line_ = rank;
  message_ = OneLine(absl::StrCat(file_name_, ":", std::max(line, 1), ": ", std::string(message)));
}

Status FileErrors::First() const {
  return any() ? absl::InvalidArgumentError(message_) : absl::OkStatus();
}

TableReader::TableReader(const TomlTable& table, std::string name, int line, FileErrors& errors)
    : table_(&table), name_(std::move(name)), line_(line), errors_(&errors) {}

const TomlEntry* TableReader::Find(std::string_view key) {
  known_.emplace_back(key);
  auto found = std::find_if(table_->begin(), table_->end(),
                            [&](const TomlEntry& entry) { return entry.key == key; });
  return found == table_->end() ? nullptr : &*found;
}

std::optional<std::string> TableReader::String(std::string_view key) {
  const TomlEntry* entry = Find(key);
  if (entry == nullptr) return std::nullopt;
  const auto* text = entry->value.As<std::string>();
  if (text == nullptr) {
    WrongType(*entry, entry->value, "a string");
    return std::nullopt;
  }
  if (text->find('\0') != std::string::npos) {
    Fail(*entry, "must not contain a NUL character");
    return std::nullopt;
  }
  return *text;
}

std::optional<bool> TableReader::Bool(std::string_view key) {
  const TomlEntry* entry = Find(key);
  if (entry == nullptr) return std::nullopt;
  if (const auto* truth = entry->value.As<bool>()) return *truth;
  WrongType(*entry, entry->value, "true or false");
  return std::nullopt;
}

std::optional<int64_t> TableReader::CheckInteger(const TomlEntry& entry, const TomlValue& value,
                                                 int64_t min, int64_t max) {
  const auto* integer = value.As<int64_t>();
  if (integer != nullptr && *integer >= min && *integer <= max) return *integer;
  WrongType(entry, value, absl::StrCat("a whole number from ", min, " to ", max));
  return std::nullopt;
}

std::optional<int64_t> TableReader::Integer(std::string_view key, int64_t min, int64_t max) {
  const TomlEntry* entry = Find(key);
  return entry == nullptr ? std::nullopt : CheckInteger(*entry, entry->value, min, max);
}

std::optional<double> TableReader::Number(std::string_view key, double min, double max) {
  const TomlEntry* entry = Find(key);
  if (entry == nullptr) return std::nullopt;
  std::optional<double> number;
  if (const auto* integer = entry->value.As<int64_t>()) number = static_cast<double>(*integer);
  if (const auto* floating = entry->value.As<double>()) number = *floating;
  // Also false for "nan".
  if (number && *number >= min && *number <= max) return number;
  WrongType(*entry, entry->value, absl::StrCat("a number from ", min, " to ", max));
  return std::nullopt;
}

std::optional<Duration> TableReader::Interval(std::string_view key, Duration min) {
  const TomlEntry* entry = Find(key);
  if (entry == nullptr) return std::nullopt;
  std::string text;
  if (const auto* string = entry->value.As<std::string>()) {
    text = *string;
  } else if (entry->value.As<int64_t>() != nullptr || entry->value.As<double>() != nullptr) {
    text = Describe(entry->value);
  } else {
    WrongType(*entry, entry->value, "a duration like \"30s\" or a number of seconds");
    return std::nullopt;
  }
  StatusOr<Duration> duration = ParseDuration(text);
  if (!duration.ok()) {
    Fail(*entry, std::string(duration.status().message()));
    return std::nullopt;
  }
  if (*duration < min) {
    Fail(*entry, absl::StrCat("must be at least ", FormatDuration(min)));
    return std::nullopt;
  }
  return *duration;
}

std::optional<int64_t> TableReader::Size(std::string_view key, int64_t min) {
  std::optional<std::string> text = String(key);
  if (!text) return std::nullopt;
  StatusOr<int64_t> bytes = ParseMemorySize(*text);
  if (!bytes.ok()) {
    Fail(key, std::string(bytes.status().message()));
  } else if (*bytes < min) {
    Fail(key, absl::StrCat("must be at least ", FormatMemorySize(min)));
  } else {
    return *bytes;
  }
  return std::nullopt;
}

std::optional<std::vector<std::string>> TableReader::Strings(std::string_view key) {
  const TomlEntry* entry = Find(key);
  if (entry == nullptr) return std::nullopt;
  const auto* array = entry->value.As<TomlArray>();
  if (array == nullptr) {
    WrongType(*entry, entry->value, "an array of strings like [\"a\", \"b\"]");
    return std::nullopt;
  }
  std::vector<std::string> strings;
  for (const TomlValue& item : *array) {
    const auto* text = item.As<std::string>();
    if (text == nullptr) {
      WrongType(*entry, item, "an array of strings");
      return std::nullopt;
    }
    if (text->find('\0') != std::string::npos) {
      FailAt(item.line, key, "must not contain a NUL character");
      return std::nullopt;
    }
    strings.push_back(*text);
  }
  return strings;
}

std::optional<std::vector<int64_t>> TableReader::Integers(std::string_view key, int64_t min,
                                                          int64_t max) {
  const TomlEntry* entry = Find(key);
  if (entry == nullptr) return std::nullopt;
  const auto* array = entry->value.As<TomlArray>();
  if (array == nullptr) {
    WrongType(*entry, entry->value, "an array of numbers like [8080]");
    return std::nullopt;
  }
  std::vector<int64_t> integers;
  for (const TomlValue& item : *array) {
    std::optional<int64_t> integer = CheckInteger(*entry, item, min, max);
    if (!integer) return std::nullopt;
    integers.push_back(*integer);
  }
  return integers;
}

std::optional<std::map<std::string, std::string>> TableReader::StringMap(std::string_view key) {
  std::optional<TableReader> reader = Table(key);
  if (!reader) return std::nullopt;
  std::map<std::string, std::string> map;
  for (const TomlEntry& entry : *reader->table_) {
    if (std::optional<std::string> text = reader->String(entry.key)) map[entry.key] = *text;
  }
  return map;
}

std::optional<TableReader> TableReader::Table(std::string_view key) {
  const TomlEntry* entry = Find(key);
  if (entry == nullptr) return std::nullopt;
  const auto* table = entry->value.As<TomlTable>();
  if (table == nullptr) {
    WrongType(*entry, entry->value, absl::StrCat("a table, written below [", FullName(key), "]"));
    return std::nullopt;
  }
  return TableReader(*table, FullName(key), entry->line, *errors_);
}

std::vector<TableReader> TableReader::Tables(std::string_view key) {
  const TomlEntry* entry = Find(key);
  std::vector<TableReader> readers;
  if (entry == nullptr) return readers;
  const auto* array = entry->value.As<TomlArray>();
  const auto is_table = [](const TomlValue& item) { return item.As<TomlTable>() != nullptr; };
  if (array == nullptr || !std::all_of(array->begin(), array->end(), is_table)) {
    WrongType(*entry, entry->value,
              absl::StrCat("tables, each written below [[", FullName(key), "]]"));
    return readers;
  }
  for (const TomlValue& item : *array) {
    readers.emplace_back(*item.As<TomlTable>(), FullName(key), item.line, *errors_);
  }
  return readers;
}

void TableReader::Finish(const TableReader* outer) const {
  for (const TomlEntry& entry : *table_) {
    if (Knows(entry.key)) continue;
    std::string hint = Suggestion(entry.key);
    if (hint.empty() && outer != nullptr && outer->Knows(entry.key)) {
      hint = absl::StrCat("; write it above the first [table]: what stands below [", name_,
                          "] belongs to that");
    }
    errors_->Add(entry.line, absl::StrCat("unknown key ", Quoted(FullName(entry.key)), hint));
  }
}

void TableReader::Fail(std::string_view key, std::string_view message) {
  auto found = std::find_if(table_->begin(), table_->end(),
                            [&](const TomlEntry& entry) { return entry.key == key; });
  FailAt(found == table_->end() ? line_ : found->line, key, message);
}

std::string TableReader::FullName(std::string_view key) const {
  return name_.empty() ? std::string(key) : absl::StrCat(name_, ".", std::string(key));
}

void TableReader::FailAt(int line, std::string_view key, std::string_view message) {
  errors_->Add(line, absl::StrCat(FullName(key), ": ", std::string(message)));
}

void TableReader::WrongType(const TomlEntry& entry, const TomlValue& value,
                            std::string_view wanted) {
  FailAt(value.line == 0 ? entry.line : value.line, entry.key,
         absl::StrCat("must be ", std::string(wanted), ", not ", Describe(value)));
}

std::string TableReader::Suggestion(std::string_view key) const {
  // Two slips at most, and less than half of the word.
  size_t best = std::min<size_t>(2, key.size() / 2) + 1;
  std::string suggestion;
  for (const std::string& known : known_) {
    const size_t distance = EditDistance(key, known);
    if (distance >= best) continue;
    best = distance;
    suggestion = absl::StrCat("; did you mean ", Quoted(FullName(known)), "?");
  }
  return suggestion;
}

bool TableReader::Knows(std::string_view key) const {
  return std::find(known_.begin(), known_.end(), key) != known_.end();
}

}  // namespace ctr::config
