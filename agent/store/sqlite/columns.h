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

// The row at hand of a SELECT of every column of `instances` in their order. DATA_LOSS if one holds
// what this version never writes.
StatusOr<InstanceRecord> ReadInstance(const Statement& row);

}  // namespace ctr::sqlite
