// The client side of the bridge between gRPC's callback API and Asio.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <grpcpp/client_context.h>

#include "agent/base/asio.h"
#include "agent/base/error.h"
#include "agent/base/time.h"
#include "agent/rpc/status.h"

namespace ctr::rpc {

// The calls of one owner, so that it can end them all before it goes. Any thread.
class CallGroup {
 public:
  // Cancels what is in progress, and each later call as it starts.
  void Cancel();
  bool cancelled() const;

 private:
  friend class CallMembership;

  mutable std::mutex mutex_;
  bool cancelled_ = false;
  std::set<grpc::ClientContext*> calls_;
};

// That a call is in its group; ends with the call.
class CallMembership {
 public:
  CallMembership(std::shared_ptr<CallGroup> group, grpc::ClientContext* call);
  ~CallMembership();
  CallMembership(const CallMembership&) = delete;
  CallMembership& operator=(const CallMembership&) = delete;

 private:
  const std::shared_ptr<CallGroup> group_;
  grpc::ClientContext* const call_;
};

struct CallOptions {
  Duration timeout = std::chrono::seconds(30);
  std::vector<std::pair<std::string, std::string>> metadata = {};
  bool wait_for_ready =
      false;  // while the server can't be reached, wait for it instead of failing at once
  std::shared_ptr<CallGroup> group = nullptr;
};

void Prepare(grpc::ClientContext& context, const CallOptions& options);

// A unary method of a generated `Stub::async()`, in its callback form.
template <typename Api, typename Request, typename Response>
using UnaryMethod = void (Api::*)(grpc::ClientContext*, const Request*, Response*,
                                  std::function<void(grpc::Status)>);

// Runs one unary call and resumes on the caller's executor with its answer. Cancelling the
// coroutine cancels the call, and it returns CANCELLED. The call's state is on the heap: the
// coroutine may be destroyed during the call, but its executor's context has to live until the call
// is over, at the latest when its timeout has passed.
template <typename Api, typename Request, typename Response>
awaitable<StatusOr<Response>> CallUnary(Api* api, UnaryMethod<Api, Request, Response> method,
                                        std::type_identity_t<Request> request,
                                        CallOptions options) {
  struct Call {
    explicit Call(std::shared_ptr<CallGroup> group) : membership(std::move(group), &context) {}

    grpc::ClientContext context;
    Request request;
    Response response;
    CallMembership membership;
  };
  auto call = std::make_shared<Call>(options.group);
  call->request = std::move(request);
  Prepare(call->context, options);

  auto start = [api, method, call](auto handler) {
    auto slot = asio::get_associated_cancellation_slot(handler);
    if (slot.is_connected()) {
      slot.assign([call](asio::cancellation_type) { call->context.TryCancel(); });
    }
    auto work = asio::make_work_guard(asio::get_associated_executor(handler));
    auto shared_handler = std::make_shared<decltype(handler)>(std::move(handler));
    (api->*method)(&call->context, &call->request, &call->response,
                   [shared_handler, call, slot, work](grpc::Status status) mutable {
                     auto executor = work.get_executor();
                     asio::post(executor, [handler = std::move(shared_handler), slot, work,
                                           status = std::move(status)]() mutable {
                       if (slot.is_connected()) slot.clear();
                       std::move (*handler)(std::move(status));
                     });
                   });
  };
  grpc::Status status = co_await asio::async_initiate<decltype(use_awaitable), void(grpc::Status)>(
      start, use_awaitable);
  if (!status.ok()) co_return FromGrpc(status);
  co_return std::move(call->response);
}

}  // namespace ctr::rpc
