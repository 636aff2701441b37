#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/error.h"
#include "agent/base/time.h"
#include "agent/model/instance.h"
#include "agent/store/sqlite/database.h"
#include "agent/store/store.h"

// Values of the model as values of columns.
namespace ctr::sqlite {

// Unix time.
int64_t ToNanoseconds(WallTime time);
WallTime FromNanoseconds(int64_t nanoseconds);

std::optional<int64_t> AsInteger(std::optional<int> value);
std::optional<int64_t> AsNanoseconds(std::optional<WallTime> time);
std::string_view ToString(Desired desired);

// "5:HELLO3:A=b": any bytes.
std::string EncodeList(const std::vector<std::string>& list);
// Keys and values in turns.
std::string EncodeMap(const std::map<std::string, std::string>& map);

// Without an ORDER BY; the last columns say whether the row is as it was written.
inline constexpr char kSelectClasses[] =
    "SELECT name, source, address, applied_at, sum IS row_sum(name, source, address, applied_at) "
    "FROM classes";
inline constexpr char kSelectInstances[] =
    "SELECT class, id, address, env, entrypoint, desired, created_at, state, reason, exit_code, "
    "message, generation, container_id, revision, since, command, failures, next_start, "
    "sum IS row_sum(class, id, address, env, entrypoint, desired, created_at, command), "
    "observed_sum IS row_sum(class, id, state, reason, exit_code, message, generation, "
    "container_id, revision, since, failures, next_start) FROM instances";
inline constexpr char kSelectCursors[] =
    "SELECT instance, class, sum IS row_sum(instance, class) FROM cursors";

// The row at hand of kSelectClasses, kSelectInstances. DATA_LOSS if it was altered, or holds what
// this version never writes.
StatusOr<ClassRecord> ReadClass(const Statement& row);
StatusOr<InstanceRecord> ReadInstance(const Statement& row);
// The same without what was observed: as if it had never been started.
StatusOr<InstanceRecord> ReadUnobserved(const Statement& row);
// Whether the observed part of an instance is as it was written.
bool ObservedIsWhole(const Statement& row);
// The row at hand of kSelectCursors; false if it was altered, which then is not read.
bool ReadCursors(const Statement& row, AddressCursors& cursors);

}  // namespace ctr::sqlite
