#include "agent/base/netns.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <thread>
#include <utility>

#include <doctest/doctest.h>

#include "agent/base/living_thread.h"

namespace ctr {
namespace {

// A process in a network namespace of its own, which goes with the test.
class Inmate {
 public:
  Inmate() {
    int ready[2];
    REQUIRE(::pipe2(ready, O_CLOEXEC) == 0);
    pid_ = ::fork();
    REQUIRE(pid_ >= 0);
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (::unshare(CLONE_NEWNET) != 0 || ::write(ready[1], "x", 1) != 1) ::_exit(1);
      for (;;) ::pause();
    }
    ::close(ready[1]);
    char byte;
    const bool is_ready = ::read(ready[0], &byte, 1) == 1;
    ::close(ready[0]);
    REQUIRE_MESSAGE(is_ready, "this test makes a network namespace: run it as root");
  }
  ~Inmate() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }

  NetworkNamespace Open() const {
    StatusOr<NetworkNamespace> netns = NetworkNamespace::OfProcess(pid_);
    INFO(netns.status().ToString());
    REQUIRE(netns.ok());
    return *std::move(netns);
  }

 private:
  pid_t pid_ = -1;
};

NetworkNamespace Prepared(const Inmate& inmate) {
  NetworkNamespace netns = inmate.Open();
  Status status = netns.PrepareLoopback();
  INFO(status.ToString());
  REQUIRE(status.ok());
  return netns;
}

ino_t OwnNamespace() {
  struct stat status;
  REQUIRE(::stat("/proc/thread-self/ns/net", &status) == 0);
  return status.st_ino;
}

struct Listener {
  UniqueFd fd;
  uint16_t port = 0;
};

Listener Listen(const NetworkNamespace& netns, uint32_t address_network_order) {
  StatusOr<UniqueFd> fd = netns.Socket(AF_INET, SOCK_STREAM, 0);
  REQUIRE(fd.ok());
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = address_network_order;
  socklen_t size = sizeof address;
  REQUIRE(::bind(fd->get(), reinterpret_cast<sockaddr*>(&address), size) == 0);
  REQUIRE(::listen(fd->get(), 1) == 0);
  REQUIRE(::getsockname(fd->get(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
  return {*std::move(fd), ntohs(address.sin_port)};
}

Listener ListenOnIpv6(const NetworkNamespace& netns, bool ipv6_only) {
  StatusOr<UniqueFd> fd = netns.Socket(AF_INET6, SOCK_STREAM, 0);
  REQUIRE(fd.ok());
  const int only = ipv6_only ? 1 : 0;
  REQUIRE(::setsockopt(fd->get(), IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only) == 0);
  sockaddr_in6 address = {};
  address.sin6_family = AF_INET6;
  socklen_t size = sizeof address;
  REQUIRE(::bind(fd->get(), reinterpret_cast<sockaddr*>(&address), size) == 0);
  REQUIRE(::listen(fd->get(), 1) == 0);
  REQUIRE(::getsockname(fd->get(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
  return {*std::move(fd), ntohs(address.sin6_port)};
}

std::optional<ListeningSocket> Find(const NetworkNamespace& netns, uint16_t port) {
  StatusOr<ListenProbe> probe = ListenProbe::In(netns);
  REQUIRE(probe.ok());
  StatusOr<std::vector<ListeningSocket>> sockets = probe->List();
  INFO(sockets.status().ToString());
  REQUIRE(sockets.ok());
  auto found = std::find_if(sockets->begin(), sockets->end(),
                            [&](const ListeningSocket& socket) { return socket.port == port; });
  return found == sockets->end() ? std::nullopt : std::optional(*found);
}

}  // namespace

TEST_CASE("a socket is opened inside the namespace, and the thread comes back") {
  Inmate inmate;
  NetworkNamespace netns = Prepared(inmate);
  const ino_t before = OwnNamespace();
  Listener listener = Listen(netns, NetworkNamespace::kInstanceAddress);
  CHECK(OwnNamespace() == before);

  sockaddr_in target = {};
  target.sin_family = AF_INET;
  target.sin_port = htons(listener.port);
  target.sin_addr.s_addr = NetworkNamespace::kInstanceAddress;
  StatusOr<UniqueFd> client = netns.Socket(AF_INET, SOCK_STREAM, 0);
  REQUIRE(client.ok());
  sockaddr_in source = {};
  source.sin_family = AF_INET;
  source.sin_addr.s_addr = NetworkNamespace::kAgentAddress;
  CHECK(::bind(client->get(), reinterpret_cast<sockaddr*>(&source), sizeof source) == 0);
  CHECK(::connect(client->get(), reinterpret_cast<sockaddr*>(&target), sizeof target) == 0);
  // Here there is no such address.
  UniqueFd outside(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  CHECK(::bind(outside.get(), reinterpret_cast<sockaddr*>(&source), sizeof source) != 0);
}

TEST_CASE("preparing the loopback twice is no error") {
  Inmate inmate;
  NetworkNamespace netns = Prepared(inmate);
  CHECK(netns.PrepareLoopback().ok());
}

TEST_CASE("the probe tells apart what listens where") {
  Inmate inmate;
  NetworkNamespace netns = Prepared(inmate);
  Listener instance = Listen(netns, NetworkNamespace::kInstanceAddress);
  Listener any = Listen(netns, htonl(INADDR_ANY));
  Listener loopback = Listen(netns, htonl(INADDR_LOOPBACK));

  std::optional<ListeningSocket> found = Find(netns, instance.port);
  REQUIRE(found);
  CHECK(found->ipv4 == NetworkNamespace::kInstanceAddress);
  CHECK_FALSE(found->any_address);
  CHECK_FALSE(found->loopback);
  found = Find(netns, any.port);
  REQUIRE(found);
  CHECK(found->any_address);
  found = Find(netns, loopback.port);
  REQUIRE(found);
  CHECK(found->loopback);
  CHECK_FALSE(found->any_address);
}

TEST_CASE("an IPv6 listener counts only where it also takes IPv4") {
  Inmate inmate;
  NetworkNamespace netns = Prepared(inmate);
  Listener dual = ListenOnIpv6(netns, false);
  Listener ipv6_only = ListenOnIpv6(netns, true);
  std::optional<ListeningSocket> found = Find(netns, dual.port);
  REQUIRE(found);
  CHECK(found->any_address);
  found = Find(netns, ipv6_only.port);
  REQUIRE(found);
  CHECK_FALSE(found->any_address);
  CHECK(found->ipv4 == 0);
}

TEST_CASE("the probe sees a listener come and go, and nothing of the host's") {
  Inmate inmate;
  NetworkNamespace netns = Prepared(inmate);
  StatusOr<ListenProbe> probe = ListenProbe::In(netns);
  REQUIRE(probe.ok());
  CHECK(probe->List()->empty());
  Listener listener = Listen(netns, htonl(INADDR_ANY));
  CHECK(probe->List()->size() == 1);
  listener.fd.Reset();
  CHECK(probe->List()->empty());
}

TEST_CASE("a bound socket that does not listen is not listed") {
  Inmate inmate;
  NetworkNamespace netns = Prepared(inmate);
  StatusOr<UniqueFd> fd = netns.Socket(AF_INET, SOCK_STREAM, 0);
  REQUIRE(fd.ok());
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  REQUIRE(::bind(fd->get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  CHECK(ListenProbe::In(netns)->List()->empty());
}

TEST_CASE("a process whose first thread has ended is still in its namespace") {
  int ready[2];
  REQUIRE(::pipe2(ready, O_CLOEXEC) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    std::thread([&ready] {
      while (LivingThread(::getpid()) == ::getpid()) std::this_thread::yield();
      if (::write(ready[1], "x", 1) != 1) ::_exit(1);
      for (;;) ::pause();
    }).detach();
    ::syscall(SYS_exit, 0);
  }
  ::close(ready[1]);
  char byte;
  CHECK(::read(ready[0], &byte, 1) == 1);
  ::close(ready[0]);
  CHECK(NetworkNamespace::OfProcess(child).ok());
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
}

TEST_CASE("the namespace of a process that is gone is an error that says so") {
  pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) ::_exit(0);
  ::waitpid(child, nullptr, 0);
  CHECK_FALSE(NetworkNamespace::OfProcess(child).ok());
}

}  // namespace ctr
