// The server side of the bridge between gRPC's callback API and Asio: handlers are coroutines on
// one executor (the control loop), gRPC's threads touch nothing of ours.
//
// A service is written so:
//
//   grpc::ServerUnaryReactor* GetClass(grpc::CallbackServerContext* context, const GetClassRequest*
//   request,
//                                      Class* response) override {
//     return rpc::Serve(context, control_, [=, this](rpc::CallContext call) {
//       return HandleGetClass(call, request, response);  // awaitable<Status>
//     });
//   }
//
// Order at the end: grpc::Server::Shutdown(deadline) while the executor still runs, so that every
// handler is cancelled and comes back; then the executor.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include "agent/base/asio.h"
#include "agent/base/error.h"
#include "agent/base/time.h"
#include "agent/rpc/status.h"

namespace ctr::rpc {

// What a handler may know about its call beyond the request.
struct CallContext {
  MonoTime deadline = MonoTime::max();  // max: the client gave none
};

// When the client stops waiting, on the monotonic clock.
MonoTime DeadlineOf(const grpc::ServerContextBase& context);

// Runs a unary method: `handler` is called on `executor`, kept until the coroutine that it gives is
// over, and answered with its Status (ToGrpc, and ErrorCodeOf in the trailing metadata
// `ctr-error`). Request and response live until then. A client that goes away or whose deadline
// passes cancels the coroutine (terminal); an exception is answered INTERNAL.
using UnaryHandler = std::function<awaitable<Status>(CallContext)>;
grpc::ServerUnaryReactor* Serve(grpc::CallbackServerContext* context,
                                asio::any_io_executor executor, UnaryHandler handler);

// The messages of a client's stream, one after the other; gRPC holds the client back while none is
// asked for. Lives as long as its handler; one Read at a time.
template <typename Request>
class StreamReader {
 public:
  virtual ~StreamReader() = default;

  // The next message, or nothing once the client has sent its last. Throws
  // system_error(operation_aborted), as other cancelled operations do, if the client went away
  // before.
  virtual awaitable<std::optional<Request>> Read() = 0;
};

// Runs a method that takes a stream of requests, otherwise as Serve.
template <typename Request>
using StreamHandler = std::function<awaitable<Status>(CallContext, StreamReader<Request>&)>;
template <typename Request>
grpc::ServerReadReactor<Request>* ServeStream(grpc::CallbackServerContext* context,
                                              asio::any_io_executor executor,
                                              StreamHandler<Request> handler);

namespace internal {

// One call in progress, shared by the reactor, which gRPC deletes when it likes, and the coroutine.
class Session : public std::enable_shared_from_this<Session> {
 public:
  using Finish = std::function<void(grpc::Status)>;

  Session(grpc::CallbackServerContext* context, asio::any_io_executor executor, Finish finish);

  // Runs `body` on the executor and finishes the call with what it returns; with UNAVAILABLE if the
  // executor's context is destroyed before.
  void Run(UnaryHandler body);
  // From gRPC's thread, at any time; cancels the coroutine unless it is over.
  void Cancel();
  bool IsCancelled() const { return context_->IsCancelled(); }
  const asio::any_io_executor& executor() const { return executor_; }

 private:
  class Ending;

  grpc::CallbackServerContext* const context_;  // valid until finish_ was called
  const asio::any_io_executor executor_;
  const Finish finish_;
  // On the executor.
  asio::cancellation_signal cancel_;
  bool over_ = false;
};

template <typename Request>
class StreamReactor final : public grpc::ServerReadReactor<Request>, public StreamReader<Request> {
 public:
  StreamReactor(grpc::CallbackServerContext* context, asio::any_io_executor executor,
                StreamHandler<Request> handler)
      : handler_(std::move(handler)),
        session_(std::make_shared<Session>(context, std::move(executor),
                                           [this](grpc::Status status) { this->Finish(status); })) {
    session_->Run([this](CallContext call) { return handler_(call, *this); });
  }

  void OnReadDone(bool ok) override {
    asio::post(session_->executor(),
               [complete = std::exchange(complete_, nullptr), ok]() { complete(ok); });
  }
  void OnCancel() override { session_->Cancel(); }
  void OnDone() override { delete this; }

  awaitable<std::optional<Request>> Read() override {
    message_.Clear();
    auto start = [this](auto handler) {
      auto shared_handler = std::make_shared<decltype(handler)>(std::move(handler));
      complete_ = [shared_handler](bool ok) { std::move (*shared_handler)(ok); };
      this->StartRead(&message_);
    };
    bool ok =
        co_await asio::async_initiate<decltype(use_awaitable), void(bool)>(start, use_awaitable);
    if (ok) co_return std::move(message_);
    if (session_->IsCancelled()) {
      throw boost::system::system_error(asio::error::operation_aborted);
    }
    co_return std::nullopt;
  }

 private:
  const StreamHandler<Request> handler_;
  Request message_;
  std::function<void(bool)> complete_;  // of the Read in progress
  const std::shared_ptr<Session> session_;
};

}  // namespace internal

template <typename Request>
grpc::ServerReadReactor<Request>* ServeStream(grpc::CallbackServerContext* context,
                                              asio::any_io_executor executor,
                                              StreamHandler<Request> handler) {
  return new internal::StreamReactor<Request>(context, std::move(executor), std::move(handler));
}

}  // namespace ctr::rpc
