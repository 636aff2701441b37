#include "agent/rpc/serve.h"

#include <exception>

#include "absl/strings/str_cat.h"
#include "agent/rpc/callers.h"

namespace ctr::rpc {
namespace {

// The root of every handler: what it throws ends here.
awaitable<Status> RunHandler(std::shared_ptr<const UnaryHandler> handler, CallContext call) {
  try {
    call.caller = Callers::Of(co_await asio::this_coro::executor).Find(call.peer);
    co_return co_await (*handler)(call);
  } catch (const boost::system::system_error& error) {
    if (error.code() == asio::error::operation_aborted) {
      co_return absl::CancelledError("the call was cancelled");
    }
    co_return absl::InternalError(absl::StrCat("internal error: ", error.what()));
  } catch (const std::exception& error) {
    co_return absl::InternalError(absl::StrCat("internal error: ", error.what()));
  }
}

class UnaryReactor final : public grpc::ServerUnaryReactor {
 public:
  UnaryReactor(grpc::CallbackServerContext* context, asio::any_io_executor executor,
               UnaryHandler handler)
      : session_(std::make_shared<internal::Session>(
            context, std::move(executor), [this](grpc::Status status) { Finish(status); })) {
    session_->Run(std::move(handler));
  }

  void OnCancel() override { session_->Cancel(); }
  void OnDone() override { delete this; }

 private:
  const std::shared_ptr<internal::Session> session_;
};

}  // namespace

namespace internal {

// Finishes the call exactly once, also when the coroutine is destroyed instead of ending.
class Session::Ending {
 public:
  explicit Ending(std::shared_ptr<Session> session) : session_(std::move(session)) {}
  Ending(Ending&&) = default;
  Ending& operator=(Ending&&) = delete;
  ~Ending() {
    if (session_ == nullptr) return;
    session_->over_ = true;
    session_->finish_(grpc::Status(grpc::StatusCode::UNAVAILABLE, "the agent is stopping"));
  }

  void operator()(std::exception_ptr, Status status) {
    std::shared_ptr<Session> session = std::move(session_);
    session->over_ = true;
    if (!status.ok()) session->context_->AddTrailingMetadata(kErrorMetadata, ErrorCodeOf(status));
    session->finish_(ToGrpc(status));  // the context and the reactor may be gone from here on
  }

 private:
  std::shared_ptr<Session> session_;
};

Session::Session(grpc::CallbackServerContext* context, asio::any_io_executor executor,
                 Finish finish)
    : context_(context), executor_(std::move(executor)), finish_(std::move(finish)) {}

void Session::Run(UnaryHandler body) {
  auto handler = std::make_shared<const UnaryHandler>(std::move(body));
  asio::co_spawn(executor_,
                 RunHandler(std::move(handler), {.deadline = DeadlineOf(*context_),
                                                 .cancel =
                                                     [weak = weak_from_this()] {
                                                       if (auto self = weak.lock()) self->Cancel();
                                                     },
                                                 .peer = context_->peer()}),
                 asio::bind_cancellation_slot(cancel_.slot(), Ending(shared_from_this())));
}

void Session::Cancel() {
  asio::post(executor_, [self = shared_from_this()] {
    if (!self->over_) self->cancel_.emit(asio::cancellation_type::terminal);
  });
}

}  // namespace internal

MonoTime DeadlineOf(const grpc::ServerContextBase& context) {
  auto deadline = context.deadline();
  auto left = deadline - std::chrono::system_clock::now();
  // gRPC gives a far future for "none", beyond what the monotonic clock can hold.
  if (left > std::chrono::hours(24 * 365)) return MonoTime::max();
  return std::chrono::steady_clock::now() + std::chrono::duration_cast<Duration>(left);
}

grpc::ServerUnaryReactor* Serve(grpc::CallbackServerContext* context,
                                asio::any_io_executor executor, UnaryHandler handler) {
  return new UnaryReactor(context, std::move(executor), std::move(handler));
}

}  // namespace ctr::rpc
