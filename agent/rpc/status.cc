#include "agent/rpc/status.h"

#include <algorithm>
#include <string>

namespace ctr::rpc {

Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  std::string message = status.error_message();
  std::replace(message.begin(), message.end(), '\n', ' ');
  return Status(static_cast<absl::StatusCode>(status.error_code()), message);
}

grpc::Status ToGrpc(const Status& status) {
  if (status.ok()) return grpc::Status::OK;
  absl::StatusCode code = status.code();
  if (code == absl::StatusCode::kUnavailable) code = absl::StatusCode::kInternal;
  return grpc::Status(static_cast<grpc::StatusCode>(code), std::string(status.message()));
}

}  // namespace ctr::rpc
