#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/error.h"
#include "cli/settings.h"
#include "ctr/v1/agent.pb.h"

namespace ctr::cli {

// Reads `ID` or `CLASS/ID`; `default_class` stands for the class of the first form. What a class
// name and an ID may be made of is the agent's to say.
StatusOr<v1::InstanceRef> ParseInstanceRef(std::string_view text, const std::string& default_class);

// Reads what was given with -e, as docker does: `K=V`, or `K` for the value it has in
// `environment`, which adds nothing if it has none. The last of several with one name holds.
StatusOr<std::map<std::string, std::string>> ParseVariables(const std::vector<std::string>& given,
                                                            const Environment& environment);

// INVALID_ARGUMENT that names `what` unless `text` is UTF-8, which is all that the API carries.
Status CheckUtf8(std::string_view text, std::string_view what);

// Says that `path` ("-": standard input) cannot be read: a failure, not the caller's mistake.
Status CannotRead(const std::string& path, int error_number);

// The whole of a file, or of the descriptor `input` if the path is "-"; at most `max_bytes`.
StatusOr<std::string> ReadText(const std::string& path, int input, size_t max_bytes);

}  // namespace ctr::cli
