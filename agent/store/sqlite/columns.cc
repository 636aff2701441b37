#include "agent/store/sqlite/columns.h"

#include <charconv>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"

namespace ctr::sqlite {
namespace {

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

StatusOr<InstanceRecord> ReadInstance(const Statement& row) {
  InstanceRecord record;
  record.name = {row.Text(0), row.Text(1)};
  record.address = static_cast<uint32_t>(row.Integer(2));
  const auto env = DecodeMap(row.Text(3));
  std::optional<std::vector<std::string>> entrypoint;
  if (!row.IsNull(4)) entrypoint = DecodeList(row.Text(4));
  std::optional<std::vector<std::string>> command;
  if (!row.IsNull(15)) command = DecodeList(row.Text(15));
  const std::optional<Desired> desired = ParseDesired(row.Text(5));
  record.created_at = FromNanoseconds(row.Integer(6));
  const std::optional<State> state = ParseState(row.Text(7));
  const std::optional<StopReason> reason = ParseStopReason(row.Text(8));
  if (!env || (!row.IsNull(4) && !entrypoint) || (!row.IsNull(15) && !command) || !desired ||
      !state || !reason) {
    return absl::DataLossError(
        absl::StrCat("the row of instance ", record.name.ToString(), " can't be read"));
  }
  record.env = *env;
  record.entrypoint = std::move(entrypoint);
  record.command = std::move(command);
  record.desired = *desired;
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
