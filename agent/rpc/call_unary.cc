#include "agent/rpc/call_unary.h"

#include "agent/rpc/callback_threads.h"

namespace ctr::rpc {

void CallGroup::Cancel() {
  std::lock_guard lock(mutex_);
  cancelled_ = true;
  for (grpc::ClientContext* call : calls_) call->TryCancel();
}

bool CallGroup::cancelled() const {
  std::lock_guard lock(mutex_);
  return cancelled_;
}

CallMembership::CallMembership(std::shared_ptr<CallGroup> group, grpc::ClientContext* call)
    : group_(std::move(group)), call_(call) {
  if (group_ == nullptr) return;
  std::lock_guard lock(group_->mutex_);
  // gRPC remembers it for a call that has not started.
  if (group_->cancelled_) call_->TryCancel();
  group_->calls_.insert(call_);
}

CallMembership::~CallMembership() {
  if (group_ == nullptr) return;
  std::lock_guard lock(group_->mutex_);
  group_->calls_.erase(call_);
}

void Prepare(grpc::ClientContext& context, const CallOptions& options) {
  KeepCallbackThreads();
  auto timeout = std::chrono::duration_cast<std::chrono::system_clock::duration>(options.timeout);
  context.set_deadline(std::chrono::system_clock::now() + timeout);
  context.set_wait_for_ready(options.wait_for_ready);
  for (const auto& [key, value] : options.metadata) context.AddMetadata(key, value);
}

}  // namespace ctr::rpc
