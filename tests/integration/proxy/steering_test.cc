#include "agent/proxy/steering.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <doctest/doctest.h>

#include "tests/integration/proxy/world.h"

namespace ctr::steering_test {
namespace {

// A server of the host on 0.0.0.0 and a free port.
class HostServer {
 public:
  HostServer() : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in any = {};
    any.sin_family = AF_INET;
    REQUIRE(::bind(fd_.get(), reinterpret_cast<sockaddr*>(&any), sizeof any) == 0);
    REQUIRE(::listen(fd_.get(), 16) == 0);
    socklen_t size = sizeof any;
    ::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&any), &size);
    port_ = ntohs(any.sin_port);
  }
  uint16_t port() const { return port_; }

 private:
  UniqueFd fd_;
  uint16_t port_ = 0;
};

std::string At(uint32_t address, uint16_t port) {
  return absl::StrCat(FormatIpv4(address), ":", port);
}

Program Hello() {
  return Answering([](const std::string&, const std::string&) { return Ok("hello"); });
}

// The same of both modes: declared pairs arrive, others are refused, removed ones again.
void CheckSteering(SteeringMode mode) {
  IngressConfig config;
  config.steering = mode;
  World world(Hello(), config);
  Steering& steering = world.ingress->steering();
  const std::string address = At(world.alice_address, 8080);
  CHECK_FALSE(RawClient(address).connected());
  for (int i = 0; i < 3; ++i) {
    REQUIRE(steering.Add(world.alice_address, 8080).ok());
    REQUIRE(steering.Add(world.alice_address, 8080).ok());
    RawClient client(address);
    REQUIRE(client.connected());
    CHECK(client.Ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n").Field("Ctr-Instance") == "web/alice");
    CHECK_FALSE(RawClient(At(world.alice_address, 8081)).connected());
    CHECK_FALSE(RawClient(At(world.alice_address + 1, 8080)).connected());
    steering.Remove(world.alice_address, 8080);
    CHECK_FALSE(RawClient(address).connected());
    // What is open goes on.
    CHECK(client.Ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n").body == "hello");
  }
  REQUIRE(steering.Add(world.alice_address, 8080).ok());
  world.ingress->Stop();
  CHECK_FALSE(RawClient(address).connected());
}

TEST_CASE("sk_lookup steers declared addresses and ports, no others, and ends with the ingress") {
  CheckSteering(SteeringMode::kSkLookup);
}

TEST_CASE("binding serves declared addresses and ports, no others, and ends with the ingress") {
  CheckSteering(SteeringMode::kBind);
}

TEST_CASE("steering says how it works") {
  auto automatic = Steering::Create({TestRange(0)}, SteeringMode::kAuto, NothingKept());
  REQUIRE(automatic.ok());
  CHECK((*automatic)->Describe() == "sk_lookup");
  automatic->reset();
  auto bound = Steering::Create({TestRange(0)}, SteeringMode::kBind, NothingKept());
  REQUIRE(bound.ok());
  CHECK((*bound)->Describe().starts_with("bind: "));
}

TEST_CASE("under sk_lookup a server on 0.0.0.0 does not take an instance's connections") {
  HostServer host;
  World world(Hello());
  REQUIRE(world.ingress->steering().Describe() == "sk_lookup");
  world.class_route->ports.push_back({host.port(), Protocol::kHttp});
  world.Publish();
  // Not declared: refused, though the host's server would take it.
  CHECK_FALSE(RawClient(At(world.alice_address, host.port())).connected());
  REQUIRE(world.ingress->steering().Add(world.alice_address, host.port()).ok());
  RawClient client(At(world.alice_address, host.port()));
  REQUIRE(client.connected());
  // Nothing listens on that port inside the instance: the answer is the ingress's own.
  CHECK(client.Ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n").Field("Ctr-Error") == "upstream_error");
  CHECK(RawClient(At(INADDR_LOOPBACK, host.port())).connected());
  world.ingress->Stop();
  CHECK(RawClient(At(world.alice_address, host.port())).connected());
}

TEST_CASE("binding names the server of the host that is in the way") {
  HostServer host;
  auto steering = Steering::Create({TestRange(0)}, SteeringMode::kBind, NothingKept());
  REQUIRE(steering.ok());
  const uint32_t address = TestRange(0).base + 2;
  Status status = (*steering)->Add(address, host.port());
  CHECK(ErrorCodeOf(status) == code::kInUse);
  CHECK(status.message().find(At(address, host.port())) != absl::string_view::npos);
  CHECK(status.message().find(absl::StrCat("0.0.0.0:", host.port())) != absl::string_view::npos);
}

TEST_CASE("two agents can't serve the same or overlapping ranges") {
  auto first = Steering::Create({TestRange(0)}, SteeringMode::kAuto, NothingKept());
  REQUIRE(first.ok());
  auto same = Steering::Create({TestRange(0)}, SteeringMode::kAuto, NothingKept());
  CHECK(ErrorCodeOf(same.status()) == code::kInUse);
  CHECK(same.status().message().find("--instance-range") != absl::string_view::npos);
  auto within =
      Steering::Create({{TestRange(0).base + 128, 25}}, SteeringMode::kAuto, NothingKept());
  CHECK(ErrorCodeOf(within.status()) == code::kInUse);
  first->reset();
  CHECK(Steering::Create({TestRange(0)}, SteeringMode::kAuto, NothingKept()).ok());
}

TEST_CASE("a range beyond loopback is refused") {
  CHECK_FALSE(Steering::Create({{10u << 24, 16}}, SteeringMode::kAuto, NothingKept()).ok());
  CHECK_FALSE(Steering::Create({{126u << 24, 7}}, SteeringMode::kAuto, NothingKept()).ok());
}

TEST_CASE("very many addresses are steered") {
  auto steering =
      Steering::Create({{TestRange(0).base, 24}}, SteeringMode::kSkLookup, NothingKept());
  REQUIRE(steering.ok());
  for (uint32_t host = 2; host < 255; ++host) {
    for (uint16_t port = 1000; port < 1010; ++port) {
      REQUIRE((*steering)->Add(TestRange(0).base + host, port).ok());
    }
  }
}

TEST_CASE("an ingress address that is taken is a clear error") {
  HostServer host;
  RoutePublisher routes;
  FakeWaker waker;
  SystemClock clock;
  const std::string address = absl::StrCat("127.0.0.1:", host.port());
  Ingress ingress({.http = {address}, .ranges = {TestRange(0)}}, routes, waker, clock,
                  NothingKept());
  Status status = ingress.Open();
  CHECK(ErrorCodeOf(status) == code::kInUse);
  CHECK(status.message().find(address) != absl::string_view::npos);
  CHECK(status.message().find("--http") != absl::string_view::npos);
}

TEST_CASE("two ingresses can't share an address unseen") {
  World world(Hello());
  RoutePublisher routes;
  FakeWaker waker;
  SystemClock clock;
  Ingress second({.http = {world.address}, .ranges = {}}, routes, waker, clock, NothingKept());
  CHECK(ErrorCodeOf(second.Open()) == code::kInUse);
}

TEST_CASE("what is no address to listen on is refused") {
  for (const char* bad :
       {"", "8080", "localhost:80", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000"}) {
    CAPTURE(bad);
    CHECK_FALSE(Listener::Open(bad, false).ok());
  }
  CHECK(Listener::Open("[::1]:0", false).ok());
}

}  // namespace
}  // namespace ctr::steering_test
