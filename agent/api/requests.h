#pragma once

#include <string>
#include <string_view>

#include "agent/base/error.h"
#include "agent/rpc/serve.h"
#include "ctr/v1/agent.pb.h"

// What several methods do with what they are asked.
namespace ctr {

// Who asks, for the record: "ctr stop by root".
std::string CauseOf(const rpc::CallContext& call, std::string_view verb);

// The same on control, for a handler that runs elsewhere, where nobody knows who called.
std::string CauseOf(rpc::CallContext call, std::string_view verb,
                    const asio::any_io_executor& control);

// How a call ends that goes on for as long as the agent does.
inline Status AgentStops() { return absl::CancelledError("the agent is stopping"); }

inline Status HandedOver() {
  return Error(absl::StatusCode::kUnavailable, code::kHandedOver,
               "another agent has taken over; ask again");
}

// INVALID_ARGUMENT for what no process can have in its environment.
Status CheckEnv(const google::protobuf::Map<std::string, std::string>& env);

// INVALID_ARGUMENT, bad_request.
inline Status BadRequest(std::string_view message) {
  return Error(absl::StatusCode::kInvalidArgument, code::kBadRequest, message);
}

}  // namespace ctr
