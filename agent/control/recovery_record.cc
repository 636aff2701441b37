#include "agent/control/recovery_record.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <map>
#include <set>
#include <stdexcept>
#include <unordered_set>
#include <utility>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "agent/config/class_file.h"
#include "agent/control/addresses.h"
#include "agent/model/names.h"

namespace ctr {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kVersion = 1;

int64_t Milliseconds(WallTime time) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()).count();
}
WallTime FromMilliseconds(int64_t time) { return WallTime(std::chrono::milliseconds(time)); }

Json OrNull(const std::optional<std::vector<std::string>>& words) {
  return words ? Json(*words) : Json();
}

std::optional<std::vector<std::string>> WordsOf(const Json& json) {
  if (json.is_null()) return std::nullopt;
  return json.get<std::vector<std::string>>();
}

// A whole number from `min`, which is not positive, to `max`, which is not negative: get() would
// round and wrap around what is none. Throws.
int64_t NumberOf(const Json& json, int64_t min, int64_t max) {
  const bool fits = json.is_number_unsigned()
                        ? json.get<uint64_t>() <= static_cast<uint64_t>(max)
                        : json.is_number_integer() && json.get<int64_t>() >= min;
  if (!fits) throw std::range_error("it has an impossible number");
  return json.get<int64_t>();
}

uint32_t AddressOf(const Json& json) {
  return static_cast<uint32_t>(NumberOf(json, 0, std::numeric_limits<uint32_t>::max()));
}

WallTime TimeOf(const Json& json) {
  return FromMilliseconds(
      NumberOf(json, Milliseconds(WallTime::min()), Milliseconds(WallTime::max())));
}

// Throws.
RecoveryRecord Parse(const std::string& text) {
  const Json json = Json::parse(text);
  RecoveryRecord record;
  const Json& of_class = json.at("class");
  record.class_record.source = of_class.at("source").get<std::string>();
  record.class_record.address = AddressOf(of_class.at("address"));
  record.class_record.applied_at = TimeOf(of_class.at("applied_at"));
  InstanceRecord& instance = record.instance;
  instance.name.id = json.at("id").get<std::string>();
  instance.address = AddressOf(json.at("address"));
  instance.env = json.at("env").get<std::map<std::string, std::string>>();
  instance.entrypoint = WordsOf(json.at("entrypoint"));
  instance.command = WordsOf(json.at("command"));
  instance.created_at = TimeOf(json.at("created_at"));
  record.woken = json.value("woken", false);
  return record;
}

// `address` if nobody has it, else another; none if the range is full.
std::optional<uint32_t> Settle(uint32_t address, Ipv4Range range, uint32_t& cursor,
                               std::unordered_set<uint32_t>& used) {
  std::optional<uint32_t> settled = address;
  if (!range.Contains(address) || used.contains(address)) {
    settled = NextAddress(range, cursor, used);
  }
  if (!settled) return std::nullopt;
  used.insert(*settled);
  cursor = std::max(cursor, *settled);
  return settled;
}

}  // namespace

std::string EncodeRecoveryRecord(const ClassRecord& class_record, const InstanceRecord& instance) {
  Json json;
  json["version"] = kVersion;
  json["class"] = {{"source", class_record.source},
                   {"address", class_record.address},
                   {"applied_at", Milliseconds(class_record.applied_at)}};
  json["id"] = instance.name.id;
  json["address"] = instance.address;
  json["env"] = instance.env;
  json["entrypoint"] = OrNull(instance.entrypoint);
  json["command"] = OrNull(instance.command);
  json["created_at"] = Milliseconds(instance.created_at);
  if (instance.desired == Desired::kStopped) json["woken"] = true;
  // ASCII: the runtime cuts it into labels, which are text each.
  return json.dump(-1, ' ', true, Json::error_handler_t::replace);
}

StatusOr<RecoveryRecord> DecodeRecoveryRecord(const std::string& text) {
  try {
    RecoveryRecord record = Parse(text);
    StatusOr<ClassConfig> config = ParseClassFile(record.class_record.source, "its class file");
    if (!config.ok()) return absl::DataLossError(config.status().message());
    record.class_record.config = *std::move(config);
    record.instance.name.class_name = record.class_record.config.name;
    if (!IsDnsLabel(record.instance.name.id)) return absl::DataLossError("it names no instance");
    return record;
  } catch (const std::exception& error) {
    return absl::DataLossError(error.what());
  }
}

std::vector<Change> RebuildFromRecords(const std::vector<std::string>& records,
                                       RebuildRanges ranges, StoredState& state,
                                       std::vector<std::string>& problems) {
  // The newest class first, else in the order of `records`.
  std::multimap<WallTime, RecoveryRecord, std::greater<>> found;
  for (const std::string& text : records) {
    if (text.empty()) continue;  // of a container of an earlier version
    StatusOr<RecoveryRecord> record = DecodeRecoveryRecord(text);
    if (record.ok()) {
      const WallTime applied_at = record->class_record.applied_at;
      found.emplace(applied_at, *std::move(record));
    } else {
      problems.push_back(
          absl::StrCat("a container's record can't be read: ", record.status().message()));
    }
  }

  std::set<std::string> classes;
  std::set<InstanceName> instances;
  std::unordered_set<uint32_t> class_addresses;
  std::unordered_set<uint32_t> addresses;
  for (const ClassRecord& record : state.classes) {
    classes.insert(record.config.name);
    class_addresses.insert(record.address);
  }
  for (const InstanceRecord& record : state.instances) {
    instances.insert(record.name);
    addresses.insert(record.address);
  }
  std::vector<Change> changes;
  for (auto& [applied_at, record] : found) {
    ClassRecord& of_class = record.class_record;
    if (classes.insert(of_class.config.name).second) {
      const auto address =
          Settle(of_class.address, ranges.classes, state.cursors.class_, class_addresses);
      of_class.address = address.value_or(0);
      changes.emplace_back(PutClass{of_class});
      state.classes.push_back(of_class);
    }
    InstanceRecord& instance = record.instance;
    if (!instances.insert(instance.name).second) continue;
    const auto address =
        Settle(instance.address, ranges.instances, state.cursors.instance, addresses);
    if (!address) {
      problems.push_back(absl::StrCat("no address is left for ", instance.name.ToString()));
      continue;
    }
    instance.address = *address;
    instance.observed.reason = StopReason::kHostLost;
    changes.emplace_back(PutInstance{instance});
    state.instances.push_back(instance);
  }
  changes.emplace_back(PutCursors{state.cursors});
  return changes;
}

}  // namespace ctr
