#pragma once

#include <string>
#include <string_view>

#include "agent/base/error.h"
#include "agent/model/class_config.h"

namespace ctr {

// Reads a class file (TOML, design sections 3 and 9). `file_name` is for messages only.
// INVALID_ARGUMENT "FILE:LINE: key: what is wrong", in one line, for the first thing that is wrong
// in it: an unknown key, a wrong type, an impossible value, or a setting that this version has not
// built and therefore must not ignore.
StatusOr<ClassConfig> ParseClassFile(std::string_view toml, std::string_view file_name);

// Every setting with its effective value, as a JSON object with the class file's keys: durations
// and sizes as text, null for what is left to the image or has no limit.
std::string SettingsJson(const ClassConfig& config);
// The same of [autoscale] alone.
std::string AutoscaleJsonText(const AutoscaleSettings& scale);

}  // namespace ctr
