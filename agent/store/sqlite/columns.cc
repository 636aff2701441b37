#include "agent/store/sqlite/columns.h"

#include <charconv>
#include <chrono>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace ctr::sqlite {
namespace {

// Whatever a damaged row has for a name.
std::string Printable(const std::string& text) { return absl::CEscape(text.substr(0, 130)); }

Status Unreadable(const InstanceName& name) {
  return absl::DataLossError(
      absl::StrCat("the row of instance ", Printable(name.ToString()), " can't be read"));
}

std::optional<Desired> ParseDesired(std::string_view text) {
  for (Desired desired : {Desired::kRunning, Desired::kStopped, Desired::kDestroyed}) {
    if (text == ToString(desired)) return desired;
  }
  return std::nullopt;
}

std::optional<std::vector<std::string>> DecodeList(std::string_view text) {
  std::vector<std::string> list;
  while (!text.empty()) {
    size_t size = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), size);
    text.remove_prefix(end - text.data());
    if (error != std::errc() || !text.starts_with(':') || size >= text.size()) return std::nullopt;
    list.emplace_back(text.substr(1, size));
    text.remove_prefix(1 + size);
  }
  return list;
}

std::optional<std::map<std::string, std::string>> DecodeMap(std::string_view text) {
  std::optional<std::vector<std::string>> list = DecodeList(text);
  if (!list || list->size() % 2 != 0) return std::nullopt;
  std::map<std::string, std::string> map;
  for (size_t i = 0; i < list->size(); i += 2) map[(*list)[i]] = (*list)[i + 1];
  return map;
}

}  // namespace

int64_t ToNanoseconds(WallTime time) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
}

WallTime FromNanoseconds(int64_t nanoseconds) {
  return WallTime(
      std::chrono::duration_cast<WallTime::duration>(std::chrono::nanoseconds(nanoseconds)));
}

std::optional<int64_t> AsInteger(std::optional<int> value) {
  return value ? std::optional<int64_t>(*value) : std::nullopt;
}

std::optional<int64_t> AsNanoseconds(std::optional<WallTime> time) {
  return time ? std::optional<int64_t>(ToNanoseconds(*time)) : std::nullopt;
}

std::string_view ToString(Desired desired) {
  switch (desired) {
    case Desired::kRunning:
      return "running";
    case Desired::kStopped:
      return "stopped";
    case Desired::kDestroyed:
      return "destroyed";
  }
  return "";
}

std::string EncodeList(const std::vector<std::string>& list) {
  std::string text;
  for (const std::string& item : list) absl::StrAppend(&text, item.size(), ":", item);
  return text;
}

std::string EncodeMap(const std::map<std::string, std::string>& map) {
  std::vector<std::string> list;
  for (const auto& [key, value] : map) {
    list.push_back(key);
    list.push_back(value);
  }
  return EncodeList(list);
}

StatusOr<ClassRecord> ReadClass(const Statement& row) {
  ClassRecord record;
  record.config.name = row.Text(0);
  if (row.Integer(4) == 0) {
    return absl::DataLossError(
        absl::StrCat("the row of class ", Printable(record.config.name), " was altered"));
  }
  record.source = row.Text(1);
  record.address = static_cast<uint32_t>(row.Integer(2));
  record.applied_at = FromNanoseconds(row.Integer(3));
  return record;
}

bool ObservedIsWhole(const Statement& row) { return row.Integer(19) != 0; }

bool ReadCursors(const Statement& row, AddressCursors& cursors) {
  if (row.Integer(2) == 0) return false;
  cursors = {static_cast<uint32_t>(row.Integer(0)), static_cast<uint32_t>(row.Integer(1))};
  return true;
}

StatusOr<InstanceRecord> ReadUnobserved(const Statement& row) {
  InstanceRecord record;
  record.name = {row.Text(0), row.Text(1)};
  if (row.Integer(18) == 0) {
    return absl::DataLossError(
        absl::StrCat("the row of instance ", Printable(record.name.ToString()), " was altered"));
  }
  record.address = static_cast<uint32_t>(row.Integer(2));
  const auto env = DecodeMap(row.Text(3));
  if (!row.IsNull(4)) record.entrypoint = DecodeList(row.Text(4));
  if (!row.IsNull(15)) record.command = DecodeList(row.Text(15));
  const std::optional<Desired> desired = ParseDesired(row.Text(5));
  record.created_at = FromNanoseconds(row.Integer(6));
  if (!env || (!row.IsNull(4) && !record.entrypoint) || (!row.IsNull(15) && !record.command) ||
      !desired) {
    return Unreadable(record.name);
  }
  record.env = *env;
  record.desired = *desired;
  record.observed.since = record.created_at;
  return record;
}

StatusOr<InstanceRecord> ReadInstance(const Statement& row) {
  CTR_ASSIGN_OR_RETURN(InstanceRecord record, ReadUnobserved(row));
  const std::optional<State> state = ParseState(row.Text(7));
  const std::optional<StopReason> reason = ParseStopReason(row.Text(8));
  if (!state || !reason) return Unreadable(record.name);
  record.observed.state = *state;
  record.observed.reason = *reason;
  if (!row.IsNull(9)) record.observed.exit_code = static_cast<int>(row.Integer(9));
  record.observed.message = row.Text(10);
  record.observed.generation = static_cast<uint64_t>(row.Integer(11));
  record.observed.container_id = row.Text(12);
  record.observed.revision = row.Text(13);
  record.observed.since = FromNanoseconds(row.Integer(14));
  record.observed.failures = static_cast<int>(row.Integer(16));
  if (!row.IsNull(17)) record.observed.next_start = FromNanoseconds(row.Integer(17));
  return record;
}

}  // namespace ctr::sqlite
