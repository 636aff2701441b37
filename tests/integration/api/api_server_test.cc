// The API's socket: who calls is known, and the listener goes on in another server's hands.
#include "agent/api/api_server.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <grpcpp/grpcpp.h>

#include "absl/strings/str_cat.h"
#include "agent/rpc/serve.h"
#include "ctr/v1/agent.grpc.pb.h"

namespace ctr {
namespace {

using namespace std::chrono_literals;

// Answers GetClass with who called.
class WhoAmI final : public v1::Agent::CallbackService {
 public:
  explicit WhoAmI(asio::any_io_executor executor) : executor_(std::move(executor)) {}
  grpc::ServerUnaryReactor* GetClass(grpc::CallbackServerContext* context,
                                     const v1::GetClassRequest*, v1::Class* response) override {
    return rpc::Serve(context, executor_, [response](rpc::CallContext call) -> awaitable<Status> {
      response->set_name(call.caller);
      co_return absl::OkStatus();
    });
  }

 private:
  const asio::any_io_executor executor_;
};

// A server on a socket in a folder of its own, and a control loop on a thread.
struct Fixture {
  Fixture() {
    char name[] = "/tmp/ctr-api-XXXXXX";
    REQUIRE(::mkdtemp(name) != nullptr);
    folder = name;
    path = folder + "/agent.sock";
  }
  ~Fixture() {
    Stop();
    std::filesystem::remove_all(folder);
  }

  Status Start() {
    auto listening =
        ApiServer::Listen(path, service, store, control.get_executor(), work.get_executor());
    if (!listening.ok()) return listening.status();
    server = *std::move(listening);
    thread = std::thread([this] { control.run(); });
    return absl::OkStatus();
  }
  void Stop() {
    if (!server) return;
    asio::post(control, [this] { server->StopAccepting(); });
    server->Shutdown(1s);
    thread.join();
    server.reset();
  }
  // Who the server takes this process for, over a connection of its own.
  std::string Ask() const {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    auto channel =
        grpc::CreateCustomChannel("unix:" + path, grpc::InsecureChannelCredentials(), arguments);
    auto stub = v1::Agent::NewStub(channel);
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + 20s);
    v1::Class answer;
    const grpc::Status status = stub->GetClass(&context, {}, &answer);
    return status.ok() ? answer.name() : "failed: " + status.error_message();
  }

  std::string folder;
  std::string path;
  asio::io_context control;
  asio::thread_pool work{1};
  FdStore store;
  WhoAmI service{control.get_executor()};
  std::unique_ptr<ApiServer> server;
  std::thread thread;
};

TEST_CASE("a call knows the user and the process that it comes from") {
  Fixture api;
  REQUIRE(api.Start().ok());
  const std::string me = absl::StrCat("root (pid ", ::getpid(), ")");
  CHECK(api.Ask() == me);
  std::vector<std::thread> callers;
  std::atomic<int> right = 0;
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([&] {
      for (int j = 0; j < 50; ++j) right += api.Ask() == me;
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK(right == 200);
}

TEST_CASE("the socket is root's and the group's alone, and replaces what a dead agent left") {
  Fixture api;
  REQUIRE(api.Start().ok());
  struct stat file = {};
  REQUIRE(::stat(api.path.c_str(), &file) == 0);
  CHECK((file.st_mode & 0777) == 0660);
  api.Stop();
  Fixture next;
  next.path = api.path;
  REQUIRE(next.Start().ok());
  CHECK(next.Ask().starts_with("root"));
}

TEST_CASE("clients that come and go without a word leave the server as it was") {
  Fixture api;
  REQUIRE(api.Start().ok());
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, api.path.c_str(), api.path.size() + 1);
  for (int i = 0; i < 200; ++i) {
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    REQUIRE(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    if (i % 2 == 0) CHECK(::send(fd.get(), "GET / HTTP/1.1\r\n\r\n", 18, MSG_NOSIGNAL) >= -1);
  }
  CHECK(api.Ask().starts_with("root"));
}

TEST_CASE("a path that is too long for a socket is refused") {
  Fixture api;
  api.path = "/tmp/" + std::string(200, 'x');
  CHECK(api.Start().code() == absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace ctr
