#include "cli/client.h"

#include <sys/fsuid.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <thread>

#include <doctest/doctest.h>

#include "agent/base/fd.h"
#include "tests/unit/cli/command_line.h"

namespace ctr::cli {
namespace {

// A socket that is bound, and listens only if told to.
UniqueFd BoundSocket(const std::string& path) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  REQUIRE(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
  return fd;
}

// Makes this thread's access to files that of an ordinary user.
class OrdinaryUser {
 public:
  OrdinaryUser() : before_(::setfsuid(65534)) {}
  ~OrdinaryUser() { ::setfsuid(before_); }

 private:
  const uid_t before_;
};

TEST_CASE("each kind of failure has its exit status") {
  CHECK(ExitStatusOf(absl::OkStatus()) == 0);
  CHECK(ExitStatusOf(absl::InvalidArgumentError("")) == 2);
  CHECK(ExitStatusOf(absl::NotFoundError("")) == 3);
  CHECK(ExitStatusOf(absl::FailedPreconditionError("")) == 4);
  CHECK(ExitStatusOf(absl::ResourceExhaustedError("")) == 4);
  CHECK(ExitStatusOf(absl::AlreadyExistsError("")) == 4);
  CHECK(ExitStatusOf(absl::UnavailableError("")) == 5);
  CHECK(ExitStatusOf(absl::DeadlineExceededError("")) == 124);
  CHECK(ExitStatusOf(absl::AbortedError("")) == 1);
  CHECK(ExitStatusOf(absl::InternalError("")) == 1);
  CHECK(ExitStatusOf(absl::CancelledError("")) == 1);
}

TEST_CASE("a socket that is not there says how to start the agent") {
  TempDir dir;
  Outcome outcome = RunCtr({"ls"}, {{"CTR_HOST", "unix://" + dir.Path("none.sock")}});
  CHECK(outcome.exit_status == 5);
  CHECK(outcome.out == "");
  CHECK(outcome.err == "ctr: cannot reach the agent at unix://" + dir.Path("none.sock") +
                           ": no such socket; start it: ctr-agent\n");
}

TEST_CASE("a socket that nobody listens on is told from one that is missing") {
  TempDir dir;
  UniqueFd bound = BoundSocket(dir.Path("s"));
  Outcome outcome = RunCtr({"ls"}, {{"CTR_HOST", dir.Path("s")}});
  CHECK(outcome.exit_status == 5);
  CHECK(outcome.err.find("nothing listens on the socket; start it: ctr-agent") !=
        std::string::npos);
}

TEST_CASE("a socket that may not be opened names the group") {
  TempDir dir;
  ::chmod(dir.Path("").c_str(), 0755);
  UniqueFd bound = BoundSocket(dir.Path("s"));
  REQUIRE(::listen(bound.get(), 1) == 0);
  REQUIRE(::chmod(dir.Path("s").c_str(), 0) == 0);
  OrdinaryUser ordinary;
  Outcome outcome = RunCtr({"ls", "-o", "json"}, {{"CTR_HOST", dir.Path("s")}});
  CHECK(outcome.exit_status == 5);
  CHECK(outcome.err == "");
  Json error = Json::parse(outcome.out)["error"];
  CHECK(error["code"] == "agent_unreachable");
  CHECK(error["message"] == "cannot reach the agent at unix://" + dir.Path("s") +
                                ": permission denied; run as root or join the group ctr");
}

TEST_CASE("an agent that hangs up in the middle of a call cannot be reached") {
  TempDir dir;
  UniqueFd listening = BoundSocket(dir.Path("s"));
  REQUIRE(::listen(listening.get(), 1) == 0);
  std::jthread peer([&] { UniqueFd(::accept(listening.get(), nullptr, nullptr)); });
  Outcome outcome = RunCtr({"ls"}, {{"CTR_HOST", dir.Path("s")}});
  CHECK(outcome.exit_status == 5);
  CHECK(outcome.err.find("the connection was lost") != std::string::npos);
}

TEST_CASE("what the agent itself cannot reach is a failure, not an absent agent") {
  FakeAgent agent;
  agent.FailOn("alice", grpc::StatusCode::UNAVAILABLE, "unavailable", "containerd does not answer");
  Outcome outcome = RunCtr(agent, {"get", "alice"});
  CHECK(outcome.exit_status == 1);
  CHECK(outcome.err == "ctr: containerd does not answer\n");
}

TEST_CASE("what an agent leaves to the one that has taken over is asked of that one") {
  FakeAgent agent;
  agent.HandOverOn("alice");
  CHECK(RunCtr(agent, {"get", "alice"}).exit_status == 0);
  agent.FailOn("alice", grpc::StatusCode::UNAVAILABLE, "handed_over", "ask again");
  CHECK(RunCtr(agent, {"get", "alice"}).err == "ctr: ask again\n");  // it is not asked for ever
}

TEST_CASE("a call that the agent does not know asks for an update") {
  FakeAgent agent;
  agent.FailOn("alice", grpc::StatusCode::UNIMPLEMENTED, "", "");
  Outcome outcome = RunCtr(agent, {"renew", "alice"});
  CHECK(outcome.exit_status == 1);
  CHECK(outcome.err == "ctr: the agent does not know this call; update ctr-agent\n");
}

TEST_CASE("a command that takes longer than --timeout ends with 124") {
  FakeAgent agent;
  Outcome outcome = RunCtr(agent, {"wait", "alice", "--for", "frozen", "--timeout", "50ms"});
  CHECK(outcome.exit_status == 124);
  CHECK(outcome.err == "ctr: not done within 50ms; give it longer with --timeout\n");
}

TEST_CASE("a start that timed out in the agent keeps the agent's words") {
  FakeAgent agent;
  agent.FailOn("a", grpc::StatusCode::DEADLINE_EXCEEDED, "start_timeout", "web/a: not healthy");
  agent.FailOn("b", grpc::StatusCode::DEADLINE_EXCEEDED, "", "web/b: not healthy");
  Outcome outcome = RunCtr(agent, {"get", "a", "-o", "jsonl"});
  CHECK(outcome.exit_status == 124);
  CHECK(outcome.out ==
        "{\"error\":{\"code\":\"start_timeout\",\"message\":\"web/a: not healthy\"}}\n");
  CHECK(RunCtr(agent, {"get", "b"}).err == "ctr: web/b: not healthy\n");
}

}  // namespace
}  // namespace ctr::cli
