#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>

#include <algorithm>

#include <doctest/doctest.h>

#include "absl/strings/match.h"
#include "agent/base/netns.h"
#include "tests/integration/runtime/runtime_fixture.h"

namespace ctr {
namespace {

sockaddr_in Address(uint32_t ipv4, uint16_t port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = ipv4;
  address.sin_port = htons(port);
  return address;
}

TEST_CASE("a listener inside is seen, and is reached from the agent's address at the instance's") {
  RuntimeFixture t;
  Container container = t.StartNew(
      {"/bin/sh", "-c", "echo hello from inside > /tmp/index.html; exec httpd -f -p 8080 -h /tmp"});
  StatusOr<ListenProbe> probe = ListenProbe::In(*container.netns);
  REQUIRE_MESSAGE(probe.ok(), probe.status().ToString());
  t.RunUntil([&] {
    StatusOr<std::vector<ListeningSocket>> sockets = probe->List();
    REQUIRE(sockets.ok());
    return std::any_of(sockets->begin(), sockets->end(),
                       [](const ListeningSocket& s) { return s.port == 8080 && s.any_address; });
  });

  StatusOr<UniqueFd> socket = container.netns->Socket(AF_INET, SOCK_STREAM, 0);
  REQUIRE(socket.ok());
  sockaddr_in local = Address(NetworkNamespace::kAgentAddress, 0);
  REQUIRE(::bind(socket->get(), reinterpret_cast<sockaddr*>(&local), sizeof local) == 0);
  sockaddr_in remote = Address(NetworkNamespace::kInstanceAddress, 8080);
  REQUIRE(::connect(socket->get(), reinterpret_cast<sockaddr*>(&remote), sizeof remote) == 0);
  std::string request = "GET /index.html HTTP/1.0\r\n\r\n";
  REQUIRE(::send(socket->get(), request.data(), request.size(), 0) ==
          static_cast<ssize_t>(request.size()));
  std::string answer;
  char buffer[1024];
  for (ssize_t n; (n = ::recv(socket->get(), buffer, sizeof buffer, 0)) > 0;) {
    answer.append(buffer, static_cast<size_t>(n));
  }
  CHECK(absl::StrContains(answer, "200 OK"));
  CHECK(absl::StrContains(answer, "hello from inside"));
}

TEST_CASE("an instance has Docker's default capabilities and seccomp, and no new privileges") {
  RuntimeFixture t;
  Container container = t.StartNew(
      {"/bin/sh", "-c",
       "cat /proc/self/status; cat /proc/kcore; echo x > /proc/sys/kernel/hostname; exit 0"});
  CHECK(t.WaitExit(container.id).code == 0);
  REQUIRE(t.Run(t.runtime_->Remove(container.id)).ok());
  std::string output = t.Output(container.id);
  CAPTURE(output);
  CHECK(absl::StrContains(output, "CapEff:\t00000000800405fb"));
  CHECK(absl::StrContains(output, "CapBnd:\t00000000800405fb"));
  CHECK(absl::StrContains(output, "CapAmb:\t0000000000000000"));
  CHECK(absl::StrContains(output, "NoNewPrivs:\t1"));
  CHECK(absl::StrContains(output, "Seccomp:\t2"));
  CHECK(absl::StrContains(output, "can't create /proc/sys/kernel/hostname"));
}

TEST_CASE("an instance has its hostname, its environment, its limits and only lo") {
  RuntimeFixture t;
  ContainerSpec spec = t.Spec({"/bin/sh", "-c",
                               "hostname; echo $CTR_CLASS/$CTR_ID $PATH; ulimit -n; cat "
                               "/proc/net/dev; echo pid $$; exit 0"});
  spec.resources.pids = 64;
  spec.nofile = 777;
  Container container = t.Create(spec);
  CHECK(ReadWholeFile("/sys/fs/cgroup/pids/ctr/" + t.options_.agent_id + "/" + container.id +
                      "/pids.max") == "64\n");
  REQUIRE(t.Run(t.runtime_->Start(container.id)).ok());
  CHECK(t.WaitExit(container.id).code == 0);
  REQUIRE(t.Run(t.runtime_->Remove(container.id)).ok());
  std::string output = t.Output(container.id);
  CAPTURE(output);
  CHECK(absl::StrContains(output, "alice\nweb/alice /bin\n777\n"));
  CHECK(absl::StrContains(output, "lo:"));
  CHECK_FALSE(absl::StrContains(output, "eth"));
  CHECK(absl::StrContains(output, "pid 1\n"));
}

}  // namespace
}  // namespace ctr
