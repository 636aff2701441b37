// The bridge between gRPC and Asio, both sides of it over a Unix socket in a temporary folder.
#include <stdlib.h>

#include <filesystem>
#include <thread>

#include <doctest/doctest.h>
#include <grpcpp/grpcpp.h>

#include "absl/strings/match.h"
#include "agent/rpc/call_unary.h"
#include "agent/rpc/serve.h"
#include "ctr/v1/agent.grpc.pb.h"

namespace ctr {
namespace {

using namespace std::chrono_literals;
using AgentApi = v1::Agent::StubInterface::async_interface;

// Answers as the class name asks it to; for ImportImage with the length of what arrived.
class Service final : public v1::Agent::CallbackService {
 public:
  explicit Service(asio::any_io_executor executor) : executor_(std::move(executor)) {}

  grpc::ServerUnaryReactor* GetClass(grpc::CallbackServerContext* context,
                                     const v1::GetClassRequest* request,
                                     v1::Class* response) override {
    return rpc::Serve(context, executor_, [=, this](rpc::CallContext call) {
      return HandleGetClass(call, request, response);
    });
  }

  grpc::ServerReadReactor<v1::ImportImageRequest>* ImportImage(
      grpc::CallbackServerContext* context, v1::ImportImageResponse* response) override {
    return rpc::ServeStream<v1::ImportImageRequest>(
        context, executor_,
        [=, this](rpc::CallContext, rpc::StreamReader<v1::ImportImageRequest>& reader) {
          return HandleImport(reader, response);
        });
  }

  std::atomic<int> started = 0;
  std::atomic<int> cancelled = 0;
  std::atomic<int> messages = 0;

 private:
  awaitable<Status> HandleGetClass(rpc::CallContext call, const v1::GetClassRequest* request,
                                   v1::Class* response) {
    ++started;
    if (request->name() == "refused") {
      co_return Error(absl::StatusCode::kFailedPrecondition, code::kManualStart, "it says no");
    }
    if (request->name() == "away") co_return absl::UnavailableError("something below is away");
    if (request->name() == "throws") throw std::runtime_error("a bug");
    if (request->name() == "slow") {
      asio::steady_timer timer(co_await asio::this_coro::executor, 1h);
      ErrorCode error;
      co_await timer.async_wait(asio::redirect_error(use_awaitable, error));
      if (error) ++cancelled;
      co_return absl::CancelledError("stopped");
    }
    auto left =
        call.deadline == MonoTime::max() ? 0ns : call.deadline - std::chrono::steady_clock::now();
    response->set_name(request->name());
    response->set_revision(
        std::to_string(std::chrono::duration_cast<std::chrono::minutes>(left).count()));
    co_return absl::OkStatus();
  }

  awaitable<Status> HandleImport(rpc::StreamReader<v1::ImportImageRequest>& reader,
                                 v1::ImportImageResponse* response) {
    size_t bytes = 0;
    try {
      while (std::optional<v1::ImportImageRequest> message = co_await reader.Read()) {
        ++messages;
        bytes += message->data().size();
        if (message->name() == "refused") co_return absl::InvalidArgumentError("no archive");
      }
    } catch (const boost::system::system_error&) {
      ++cancelled;
      throw;
    }
    response->add_references(std::to_string(bytes));
    co_return absl::OkStatus();
  }

  const asio::any_io_executor executor_;
};

// A server whose handlers run on a loop of their own, and a client with another.
struct Fixture {
  Fixture() {
    char name[] = "/tmp/ctr-rpc-XXXXXX";
    REQUIRE(::mkdtemp(name) != nullptr);
    folder = name;
    std::string address = "unix:" + folder + "/s.sock";
    grpc::ServerBuilder builder;
    builder.AddListeningPort(address, grpc::InsecureServerCredentials());
    builder.RegisterService(&service);
    server = builder.BuildAndStart();
    thread = std::thread([this] { control.run(); });
    stub = v1::Agent::NewStub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
  }
  ~Fixture() {
    server->Shutdown(std::chrono::system_clock::now() + 100ms);
    guard.reset();
    thread.join();
    std::filesystem::remove_all(folder);
  }

  StatusOr<v1::Class> GetClass(std::string name, rpc::CallOptions options = {}) {
    v1::GetClassRequest request;
    request.set_name(std::move(name));
    std::optional<StatusOr<v1::Class>> result;
    asio::io_context loop(1);
    asio::co_spawn(
        loop,
        rpc::CallUnary(static_cast<AgentApi*>(stub->async()), &AgentApi::GetClass,
                       std::move(request), std::move(options)),
        [&](std::exception_ptr, StatusOr<v1::Class> answer) { result = std::move(answer); });
    loop.run();
    return *std::move(result);
  }

  template <typename Condition>
  void Await(Condition condition) {
    for (int i = 0; i < 5000 && !condition(); ++i) std::this_thread::sleep_for(1ms);
    CHECK(condition());
  }

  std::string folder;
  asio::io_context control{1};
  asio::executor_work_guard<asio::io_context::executor_type> guard{control.get_executor()};
  Service service{control.get_executor()};
  std::unique_ptr<grpc::Server> server;
  std::thread thread;
  std::unique_ptr<v1::Agent::StubInterface> stub;
};

TEST_CASE("a handler sees the request and its deadline, and the client its answer") {
  Fixture t;
  StatusOr<v1::Class> answer = t.GetClass("web", {.timeout = 10min + 30s});
  REQUIRE_MESSAGE(answer.ok(), answer.status().ToString());
  CHECK(answer->name() == "web");
  CHECK(answer->revision() == "10");
}

TEST_CASE("an error carries its name in the trailing metadata") {
  Fixture t;
  grpc::ClientContext context;
  v1::GetClassRequest request;
  request.set_name("refused");
  v1::Class response;
  grpc::Status status = t.stub->GetClass(&context, request, &response);
  CHECK(status.error_code() == grpc::StatusCode::FAILED_PRECONDITION);
  CHECK(status.error_message() == "it says no");
  auto name = context.GetServerTrailingMetadata().find("ctr-error");
  REQUIRE(name != context.GetServerTrailingMetadata().end());
  CHECK(std::string(name->second.data(), name->second.size()) == "manual_start");
}

TEST_CASE("what is unavailable below the agent is no unreachable agent") {
  Fixture t;
  CHECK(absl::IsInternal(t.GetClass("away").status()));
}

TEST_CASE("an exception in a handler is answered") {
  Fixture t;
  Status status = t.GetClass("throws").status();
  CHECK(absl::IsInternal(status));
  CHECK(absl::StrContains(status.message(), "a bug"));
}

TEST_CASE("a call whose deadline passes cancels its handler") {
  Fixture t;
  CHECK(absl::IsDeadlineExceeded(t.GetClass("slow", {.timeout = 50ms}).status()));
  t.Await([&] { return t.service.cancelled == 1; });
}

TEST_CASE("cancelling the calling coroutine cancels the call, and its handler") {
  Fixture t;
  asio::io_context loop(1);
  asio::cancellation_signal cancel;
  v1::GetClassRequest request;
  request.set_name("slow");
  Status status;
  asio::co_spawn(loop,
                 rpc::CallUnary(static_cast<AgentApi*>(t.stub->async()), &AgentApi::GetClass,
                                std::move(request), rpc::CallOptions{}),
                 asio::bind_cancellation_slot(cancel.slot(),
                                              [&](std::exception_ptr, StatusOr<v1::Class> answer) {
                                                status = answer.status();
                                              }));
  std::thread runner([&] { loop.run(); });
  t.Await([&] { return t.service.started == 1; });
  asio::post(loop, [&] { cancel.emit(asio::cancellation_type::terminal); });
  runner.join();
  CHECK(absl::IsCancelled(status));
  t.Await([&] { return t.service.cancelled == 1; });
}

// Bug: gRPC's callback threads ended with the last channel, on one of those threads, and went on
// with a freed queue.
TEST_CASE("a channel may go away with its call while others come and go") {
  Fixture t;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 100; ++round) {
        asio::io_context loop(1);
        auto stub = v1::Agent::NewStub(grpc::CreateChannel("unix:" + t.folder + "/s.sock",
                                                           grpc::InsecureChannelCredentials()));
        asio::co_spawn(loop,
                       rpc::CallUnary(static_cast<AgentApi*>(stub->async()), &AgentApi::GetClass,
                                      v1::GetClassRequest(), {}),
                       asio::detached);
        loop.run();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(t.service.started == 400);
}

TEST_CASE("a group ends its calls, and those that come later") {
  Fixture t;
  auto group = std::make_shared<rpc::CallGroup>();
  std::thread canceller([&] {
    t.Await([&] { return t.service.started == 1; });
    group->Cancel();
  });
  CHECK(absl::IsCancelled(t.GetClass("slow", {.group = group}).status()));
  canceller.join();
  CHECK(absl::IsCancelled(t.GetClass("web", {.group = group}).status()));
}

TEST_CASE("a server that shuts down cancels the handlers in progress") {
  Fixture t;
  std::thread caller([&] { CHECK_FALSE(t.GetClass("slow").ok()); });
  t.Await([&] { return t.service.started == 1; });
  t.server->Shutdown(std::chrono::system_clock::now());
  caller.join();
  t.Await([&] { return t.service.cancelled == 1; });
}

TEST_CASE("a stream's messages arrive one after the other, and its end") {
  Fixture t;
  grpc::ClientContext context;
  v1::ImportImageResponse response;
  auto writer = t.stub->ImportImage(&context, &response);
  v1::ImportImageRequest piece;
  piece.set_data(std::string(100'000, 'x'));
  for (int i = 0; i < 50; ++i) CHECK(writer->Write(piece));
  CHECK(writer->WritesDone());
  grpc::Status status = writer->Finish();
  CHECK_MESSAGE(status.ok(), status.error_message());
  REQUIRE(response.references_size() == 1);
  CHECK(response.references(0) == "5000000");
}

TEST_CASE("a stream may be refused before its end") {
  Fixture t;
  grpc::ClientContext context;
  v1::ImportImageResponse response;
  auto writer = t.stub->ImportImage(&context, &response);
  v1::ImportImageRequest piece;
  piece.set_name("refused");
  piece.set_data(std::string(100'000, 'x'));
  while (writer->Write(piece)) {
  }
  CHECK(writer->Finish().error_code() == grpc::StatusCode::INVALID_ARGUMENT);
  CHECK(t.service.messages == 1);
}

TEST_CASE("a client that goes away in the middle of a stream is not taken for its end") {
  Fixture t;
  grpc::ClientContext context;
  v1::ImportImageResponse response;
  auto writer = t.stub->ImportImage(&context, &response);
  v1::ImportImageRequest piece;
  piece.set_data("x");
  CHECK(writer->Write(piece));
  t.Await([&] { return t.service.messages == 1; });
  context.TryCancel();
  CHECK(writer->Finish().error_code() == grpc::StatusCode::CANCELLED);
  t.Await([&] { return t.service.cancelled == 1; });
}

}  // namespace
}  // namespace ctr
