#pragma once

#include <cstdint>
#include <string>

#include <nlohmann/json.hpp>

#include "agent/base/error.h"
#include "agent/base/time.h"
#include "cli/table.h"
#include "ctr/v1/agent.pb.h"

// What commands print, from what the agent answers. Pure: no clock, no terminal.
namespace ctr::cli {

// Keys stay in the order in which they were added: our own, always the same.
using Json = nlohmann::ordered_json;

inline Json TextOrNull(const std::string& text) {
  return text.empty() ? Json(nullptr) : Json(text);
}

// The shapes that scripts rely on: every key is always there, null where there is nothing to say.
Json ToJson(const v1::Instance& instance);
Json ToJson(const v1::InspectInstanceResponse& inspected);
Json ToJson(const v1::Image& image);
Json ToJson(const v1::Info& info);
Json ToJson(const v1::Class& class_);
// With its settings and the text of its file besides.
Json ToDetailedJson(const v1::Class& class_);
// {"error":{"code":…,"message":…}}
Json ToJson(const Status& error);

// On several lines, and on one. Both end with a newline; what is no UTF-8 is replaced.
std::string Pretty(const Json& json);
std::string Compact(const Json& json);

// Tables show times as ages at `now`.
std::string InstanceTable(const google::protobuf::RepeatedPtrField<v1::Instance>& instances,
                          WallTime now, Style style);
std::string ClassTable(const google::protobuf::RepeatedPtrField<v1::Class>& classes, WallTime now,
                       Style style);
std::string ImageTable(const google::protobuf::RepeatedPtrField<v1::Image>& images, WallTime now,
                       Style style);

// One "key: value" line for each key of an object, values in a column.
std::string KeyValues(const Json& object);

// "class/id" of an instance, "class/web" of a class.
std::string NameOf(const v1::Instance& instance);
std::string NameOfClass(const std::string& name);

// RFC 3339 in UTC, with milliseconds.
std::string FormatTime(int64_t unix_ms);
// "0s", "59s", "3m", "2h", "5d": whole units, rounded down. "" if `unix_ms` is 0.
std::string FormatAge(int64_t unix_ms, WallTime now);

}  // namespace ctr::cli
