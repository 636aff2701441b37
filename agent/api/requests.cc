#include "agent/api/requests.h"

#include "absl/strings/str_cat.h"
#include "agent/rpc/callers.h"

namespace ctr {

std::string CauseOf(const rpc::CallContext& call, std::string_view verb) {
  return absl::StrCat("ctr ", std::string(verb), call.caller.empty() ? "" : " by ", call.caller);
}

std::string CauseOf(rpc::CallContext call, std::string_view verb,
                    const asio::any_io_executor& control) {
  call.caller = rpc::Callers::Of(control).Find(call.peer);
  return CauseOf(call, verb);
}

Status CheckEnv(const google::protobuf::Map<std::string, std::string>& env) {
  for (const auto& [key, value] : env) {
    bool nul = key.find('\0') != std::string::npos || value.find('\0') != std::string::npos;
    if (key.empty() || key.find('=') != std::string::npos || nul) {
      return Error(
          absl::StatusCode::kInvalidArgument, code::kBadRequest,
          absl::StrCat("\"", key,
                       "\" is not a name of an environment variable; write -e NAME=VALUE"));
    }
  }
  return absl::OkStatus();
}

}  // namespace ctr
