#include "agent/rpc/call_unary.h"

namespace ctr::rpc {

void Prepare(grpc::ClientContext& context, const CallOptions& options) {
  auto timeout = std::chrono::duration_cast<std::chrono::system_clock::duration>(options.timeout);
  context.set_deadline(std::chrono::system_clock::now() + timeout);
  context.set_wait_for_ready(options.wait_for_ready);
  for (const auto& [key, value] : options.metadata) context.AddMetadata(key, value);
}

}  // namespace ctr::rpc
