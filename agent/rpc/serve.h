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
  std::string caller = {};              // who called: "root (pid 4711)"; "" if that is not known
  std::function<void()> cancel = {};    // ends the handler's waits, not the call; on its executor
  std::string peer = {};                // for Callers, which a handler beside control asks there
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
  // before. A Read that another coroutine waits for when the handler ends throws the same.
  virtual awaitable<std::optional<Request>> Read() = 0;
};

// The messages of a stream to the client. Lives as long as its handler; one Write at a time.
template <typename Response>
class StreamWriter {
 public:
  virtual ~StreamWriter() = default;

  // Returns once gRPC takes the next message, which holds back who writes faster than the client
  // reads. Throws system_error(operation_aborted) if the client went away.
  virtual awaitable<void> Write(Response message) = 0;
};

// Runs a method that answers with a stream, otherwise as Serve. The handler's Status ends the
// stream.
template <typename Response>
using WriterHandler = std::function<awaitable<Status>(CallContext, StreamWriter<Response>&)>;
template <typename Response>
grpc::ServerWriteReactor<Response>* ServeWriter(grpc::CallbackServerContext* context,
                                                asio::any_io_executor executor,
                                                WriterHandler<Response> handler);

// Runs a method with a stream in each direction. Reader and writer may be used by two coroutines of
// the handler at a time, on `executor`. A Read that is open when the handler ends throws, and the
// reader is gone.
template <typename Request, typename Response>
using BidiHandler =
    std::function<awaitable<Status>(CallContext, StreamReader<Request>&, StreamWriter<Response>&)>;
template <typename Request, typename Response>
grpc::ServerBidiReactor<Request, Response>* ServeBidi(grpc::CallbackServerContext* context,
                                                      asio::any_io_executor executor,
                                                      BidiHandler<Request, Response> handler);

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
  // Also once the handler is over. On the executor.
  bool IsCancelled() const { return over_ || context_->IsCancelled(); }
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

// One operation of a stream at a time: started on the executor, over on gRPC's thread. A cancelled
// call ends it, so it needs no cancellation of its own.
class Completion {
 public:
  // Calls `begin` and returns what Complete is called with.
  template <typename Begin>
  awaitable<bool> Await(Begin begin) {
    auto start = [this, begin](auto handler) {
      auto executor = asio::get_associated_executor(handler);
      auto shared_handler = std::make_shared<decltype(handler)>(std::move(handler));
      complete_ = [shared_handler, executor](bool ok) {
        asio::post(executor, [shared_handler, ok] { std::move (*shared_handler)(ok); });
      };
      begin();
    };
    co_return co_await asio::async_initiate<decltype(use_awaitable), void(bool)>(start,
                                                                                 use_awaitable);
  }
  void Complete(bool ok) { std::exchange(complete_, nullptr)(ok); }

 private:
  std::function<void(bool)> complete_;
};

// What the reactors of all streams have in common. `Reactor` is gRPC's base class.
template <typename Reactor>
class StreamBase : public Reactor {
 public:
  void OnCancel() override { session_->Cancel(); }
  void OnDone() override { delete this; }

 protected:
  StreamBase(grpc::CallbackServerContext* context, asio::any_io_executor executor)
      : session_(std::make_shared<Session>(
            context, std::move(executor), [this](grpc::Status status) { this->Finish(status); })) {}

  template <typename Request>
  awaitable<std::optional<Request>> ReadOne() {
    auto message = std::make_shared<Request>();
    auto session = session_;  // the handler may end, and gRPC delete the reactor, during the read
    const bool ok = co_await read_.Await([this, message] { this->StartRead(message.get()); });
    if (ok) co_return std::move(*message);
    if (session->IsCancelled()) Abort();
    co_return std::nullopt;
  }
  template <typename Response>
  awaitable<void> WriteOne(Response response) {
    auto message = std::make_shared<const Response>(std::move(response));
    const bool ok = co_await write_.Await([this, message] { this->StartWrite(message.get()); });
    if (!ok) Abort();
  }

  const std::shared_ptr<Session> session_;
  Completion read_;
  Completion write_;

 private:
  [[noreturn]] static void Abort() {
    throw boost::system::system_error(asio::error::operation_aborted);
  }
};

template <typename Request>
class ReadReactor final : public StreamBase<grpc::ServerReadReactor<Request>>,
                          public StreamReader<Request> {
 public:
  ReadReactor(grpc::CallbackServerContext* context, asio::any_io_executor executor,
              StreamHandler<Request> handler)
      : ReadReactor::StreamBase(context, std::move(executor)), handler_(std::move(handler)) {
    this->session_->Run([this](CallContext call) { return handler_(call, *this); });
  }
  void OnReadDone(bool ok) override { this->read_.Complete(ok); }
  awaitable<std::optional<Request>> Read() override { return this->template ReadOne<Request>(); }

 private:
  const StreamHandler<Request> handler_;
};

template <typename Response>
class WriteReactor final : public StreamBase<grpc::ServerWriteReactor<Response>>,
                           public StreamWriter<Response> {
 public:
  WriteReactor(grpc::CallbackServerContext* context, asio::any_io_executor executor,
               WriterHandler<Response> handler)
      : WriteReactor::StreamBase(context, std::move(executor)), handler_(std::move(handler)) {
    this->session_->Run([this](CallContext call) { return handler_(call, *this); });
  }
  void OnWriteDone(bool ok) override { this->write_.Complete(ok); }
  awaitable<void> Write(Response message) override { return this->WriteOne(std::move(message)); }

 private:
  const WriterHandler<Response> handler_;
};

template <typename Request, typename Response>
class BidiReactor final : public StreamBase<grpc::ServerBidiReactor<Request, Response>>,
                          public StreamReader<Request>,
                          public StreamWriter<Response> {
 public:
  BidiReactor(grpc::CallbackServerContext* context, asio::any_io_executor executor,
              BidiHandler<Request, Response> handler)
      : BidiReactor::StreamBase(context, std::move(executor)), handler_(std::move(handler)) {
    this->session_->Run([this](CallContext call) { return handler_(call, *this, *this); });
  }
  void OnReadDone(bool ok) override { this->read_.Complete(ok); }
  void OnWriteDone(bool ok) override { this->write_.Complete(ok); }
  awaitable<std::optional<Request>> Read() override { return this->template ReadOne<Request>(); }
  awaitable<void> Write(Response message) override { return this->WriteOne(std::move(message)); }

 private:
  const BidiHandler<Request, Response> handler_;
};

}  // namespace internal

template <typename Request>
grpc::ServerReadReactor<Request>* ServeStream(grpc::CallbackServerContext* context,
                                              asio::any_io_executor executor,
                                              StreamHandler<Request> handler) {
  return new internal::ReadReactor<Request>(context, std::move(executor), std::move(handler));
}

template <typename Response>
grpc::ServerWriteReactor<Response>* ServeWriter(grpc::CallbackServerContext* context,
                                                asio::any_io_executor executor,
                                                WriterHandler<Response> handler) {
  return new internal::WriteReactor<Response>(context, std::move(executor), std::move(handler));
}

template <typename Request, typename Response>
grpc::ServerBidiReactor<Request, Response>* ServeBidi(grpc::CallbackServerContext* context,
                                                      asio::any_io_executor executor,
                                                      BidiHandler<Request, Response> handler) {
  return new internal::BidiReactor<Request, Response>(context, std::move(executor),
                                                      std::move(handler));
}

}  // namespace ctr::rpc
