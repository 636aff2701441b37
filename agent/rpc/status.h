#pragma once

#include <grpcpp/support/status.h>

#include "agent/base/error.h"

namespace ctr::rpc {

// The trailing metadata that carries ErrorCodeOf(status) to the client.
inline constexpr char kErrorMetadata[] = "ctr-error";

// An answer from below (containerd, etcd) as a Status: the same code, the message in one line.
Status FromGrpc(const grpc::Status& status);

// A Status as our API's answer. UNAVAILABLE becomes INTERNAL: to a client it means that the agent
// itself can't be reached, never that something below the agent can't.
grpc::Status ToGrpc(const Status& status);

}  // namespace ctr::rpc
