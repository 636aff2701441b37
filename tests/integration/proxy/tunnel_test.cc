#include <sys/socket.h>

#include <doctest/doctest.h>

#include "tests/integration/proxy/world.h"

namespace ctr {
namespace {

constexpr char kUpgrade[] = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
constexpr char kSwitched[] =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

// Sends back what it gets, and the end of it.
void Echo(ServerConnection& connection) {
  for (std::string some; !(some = connection.ReadSome(65536)).empty();) {
    if (!connection.Write(some)) return;
  }
}

void SwitchAndEcho(ServerConnection& connection) {
  const std::string head = connection.ReadHead();
  connection.Write(head.find("Upgrade: websocket\r\n") == std::string::npos
                       ? Ok("no upgrade was asked for")
                       : std::string(kSwitched) + "hello");
  Echo(connection);
}

// What comes until the end; `size`: no more than that.
std::string Receive(int fd, size_t size = SIZE_MAX) {
  std::string all;
  char bytes[65536];
  while (all.size() < size) {
    const ssize_t count = ::recv(fd, bytes, std::min(sizeof bytes, size - all.size()), 0);
    if (count <= 0) break;
    all.append(bytes, static_cast<size_t>(count));
  }
  return all;
}

// The end of the stream is a reset.
bool EndsWithReset(int fd) {
  char byte;
  return ::recv(fd, &byte, 1, 0) < 0 && errno == ECONNRESET;
}

std::string Pattern(size_t size) {
  std::string bytes(size, '\0');
  uint32_t state = 1;
  for (char& byte : bytes) byte = static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
  return bytes;
}

// A world whose port 8080 speaks tcp, steered at alice's address and the class's.
struct TcpWorld : World {
  explicit TcpWorld(Program program, IngressConfig config = {})
      : World(std::move(program), std::move(config)) {
    class_route->ports = {{8080, Protocol::kTcp}};
    Publish();
    REQUIRE(ingress->steering().Add(alice_address, 8080).ok());
    REQUIRE(ingress->steering().Add(class_address, 8080).ok());
  }
  std::string alice_text() const { return FormatIpv4(alice_address) + ":8080"; }
};

TEST_CASE("an upgrade that wakes the instance becomes a connection, byte for byte") {
  World world(SwitchAndEcho);
  RawClient client(world.address);
  // What the client sends behind the request at once is not lost.
  client.Send(World::Get("/", kUpgrade) + "early");
  RawResponse response = client.Receive(RawClient::Body::kNone);
  CHECK(response.status() == 101);
  CHECK(response.Field("Upgrade") == "websocket");
  CHECK(response.Field("Connection") == "upgrade");
  CHECK(response.Field("Ctr-Instance") == "web/alice");
  CHECK(world.alice->in_flight() == 1);
  CHECK(Eventually([&] { return world.alice->tunnels() == 1; }));
  CHECK_FALSE(world.alice->busy());
  client.ShutdownWrite();
  std::string echoed = client.Rest();
  CHECK(echoed == "helloearly");
  CHECK(world.Idle());
  CHECK(world.alice->tunnels() == 0);
}

TEST_CASE("an answer other than 101 to an upgrade is an answer, and the connection goes on") {
  World world(Answering([](const std::string&, const std::string&) { return Ok("not today"); }));
  RawClient client(world.address);
  CHECK(client.Ask(World::Get("/", kUpgrade)).body == "not today");
  CHECK(client.Ask(World::Get("/")).body == "not today");
}

TEST_CASE("a 101 that nobody asked for is refused") {
  World world([](ServerConnection& connection) {
    connection.ReadHead();
    connection.Write(kSwitched);
    connection.ReadSome(1);
  });
  CHECK(world.Fetch(World::Get("/")).status() == 502);
  CHECK(world.Fetch(World::Get("/", "Connection: upgrade\r\nUpgrade: h2c\r\n")).status() == 502);
}

TEST_CASE("a tcp port wakes its instance on connect, and passes bytes both ways at once") {
  TcpWorld world(Echo);
  const std::string sent = Pattern(20 << 20);
  RawClient client(world.alice_text());
  REQUIRE(client.connected());
  std::thread sender([&] {
    client.Send(sent);
    client.ShutdownWrite();
  });
  const std::string received = Receive(client.fd());
  sender.join();
  CHECK(received == sent);
  CHECK(world.waker.starts() == 1);
  CHECK(world.Idle());
}

TEST_CASE("who speaks first does not matter, and each side may end before the other") {
  TcpWorld world([](ServerConnection& connection) {
    connection.Write("220 ready\r\n");
    if (connection.number() == 0) {
      ::shutdown(connection.fd(), SHUT_WR);
      CHECK(connection.ReadSome(100) == "still here");
      CHECK(connection.ReadSome(100).empty());
    } else {
      CHECK(connection.ReadSome(100).empty());
      connection.Write("bye");
    }
  });
  RawClient server_ends(world.alice_text());
  CHECK(Receive(server_ends.fd()) == "220 ready\r\n");
  server_ends.Send("still here");
  server_ends.Close();
  CHECK(world.Idle());
  RawClient client_ends(world.alice_text());
  CHECK(Receive(client_ends.fd(), 11) == "220 ready\r\n");
  client_ends.ShutdownWrite();
  CHECK(Receive(client_ends.fd()) == "bye");
  CHECK(world.Idle());
}

TEST_CASE("a reset on one side is a reset on the other") {
  Latch reset;
  TcpWorld world([&](ServerConnection& connection) {
    connection.ReadSome(1);
    if (connection.number() == 0) {
      connection.Reset();
    } else {
      CHECK(EndsWithReset(connection.fd()));
      reset.Open();
    }
  });
  RawClient first(world.alice_text());
  first.Send("x");
  CHECK(EndsWithReset(first.fd()));
  RawClient second(world.alice_text());
  second.Send("x");
  CHECK(Eventually([&] { return world.server.connections() == 2; }));
  const linger now = {.l_onoff = 1, .l_linger = 0};
  ::setsockopt(second.fd(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
  second.Close();
  reset.Wait();
  CHECK(world.Idle());
}

TEST_CASE("a class's tcp address takes each connection to one of its instances") {
  TcpWorld world(Echo);
  for (int i = 0; i < 30; ++i) {
    RawClient client(FormatIpv4(world.class_address) + ":8080");
    client.Send("x");
    CHECK(Receive(client.fd(), 1) == "x");
  }
  std::set<std::string> woken;
  for (const FakeWaker::Call& call : world.waker.calls()) {
    CHECK(call.origin == WakeOrigin::kRoute);
    woken.insert(call.name.id);
  }
  CHECK(woken.size() == 3);
}

TEST_CASE("fifty connections to a sleeping instance are one start, and all are served") {
  TcpWorld world(Echo);
  std::vector<std::thread> clients;
  std::atomic<int> served{0};
  for (int i = 0; i < 50; ++i) {
    clients.emplace_back([&] {
      RawClient client(world.alice_text());
      client.Send("hello");
      if (Receive(client.fd(), 5) == "hello") ++served;
    });
  }
  for (std::thread& client : clients) client.join();
  CHECK(served == 50);
  CHECK(world.waker.starts() == 1);
}

TEST_CASE("a connection whose wake fails is reset, and one that goes away meanwhile is forgotten") {
  IngressConfig config;
  config.limits.half_closed_held = std::chrono::milliseconds(500);
  TcpWorld world(Echo, config);
  world.waker.FailWith(Error(absl::StatusCode::kAborted, code::kStartFailed, "no"));
  RawClient failed(world.alice_text());
  CHECK(EndsWithReset(failed.fd()));
  world.waker.FailWith(absl::OkStatus());
  world.waker.Hold();
  RawClient leaves(world.alice_text());
  CHECK(Eventually([&] { return world.waker.waiting() == 1; }));
  leaves.Close();
  CHECK(Eventually([&] { return world.ingress->connections() == 0; }));
  world.waker.Release();
  CHECK(world.Idle());
}

TEST_CASE("a connection ends when the start that it is in has ended") {
  TcpWorld world(Echo);
  RawClient client(world.alice_text());
  client.Send("x");
  CHECK(Receive(client.fd(), 1) == "x");
  world.alice->Close();
  world.alice->ForgetEndpoint();
  CHECK(client.Closed());
  CHECK(world.Idle());
}

TEST_CASE("a drain ends a quiet connection soon, and waits for one that may still be answered") {
  TcpWorld world([](ServerConnection& connection) {
    const std::string asked = connection.ReadSome(100);
    if (asked == "slow") std::this_thread::sleep_for(std::chrono::seconds(3));
    connection.Write("answer");
    connection.ReadSome(1);
  });
  RawClient quiet(world.alice_text());
  quiet.Send("fast");
  CHECK(Receive(quiet.fd(), 6) == "answer");
  RawClient waits(world.alice_text());
  waits.Send("slow");
  CHECK(Eventually([&] { return world.server.connections() == 2; }));
  asio::io_context control;
  asio::co_spawn(control, world.ingress->Drain(std::chrono::seconds(20), IdleConnections::kEnd),
                 asio::detached);
  control.run_for(std::chrono::milliseconds(2000));
  CHECK(world.alice->tunnels() == 1);
  CHECK(quiet.Closed());
  control.run();
  CHECK(Receive(waits.fd()) == "answer");
}

TEST_CASE("a drain that keeps quiet connections ends them a second before its own end") {
  TcpWorld world(Echo);
  RawClient quiet(world.alice_text());
  quiet.Send("one");
  CHECK(Receive(quiet.fd(), 3) == "one");
  asio::io_context control;
  asio::co_spawn(control, world.ingress->Drain(std::chrono::seconds(4), IdleConnections::kKeep),
                 asio::detached);
  control.run_for(std::chrono::milliseconds(2000));
  quiet.Send("two");
  CHECK(Receive(quiet.fd(), 3) == "two");
  control.run();
  CHECK(quiet.Closed());
}

TEST_CASE("a connection without a word is in flight, but is no reason to stay awake") {
  TcpWorld world(Echo);
  RawClient client(world.alice_text());
  CHECK(Eventually([&] { return world.alice->tunnels() == 1; }));
  CHECK_FALSE(world.alice->busy());
  CHECK(world.alice->CloseIfIdle());
  CHECK(world.alice->in_flight() == 1);
}

TEST_CASE("a reader that is slow holds up the writer, not the agent's memory") {
  std::atomic<size_t> written{0};
  TcpWorld world([&](ServerConnection& connection) {
    const std::string block(65536, 'x');
    while (written < size_t{256} << 20 && connection.Write(block)) written += block.size();
  });
  RawClient client(world.alice_text());
  CHECK(Receive(client.fd(), 1) == "x");
  size_t before = 0;
  do {
    before = written;
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
  } while (written != before);
  CHECK(written < size_t{64} << 20);
}

TEST_CASE("HTTP/2 to an instance's own address goes through as it is, and by name it is refused") {
  const std::string preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
  World world([](ServerConnection& connection) { Echo(connection); });
  REQUIRE(world.ingress->steering().Add(world.alice_address, 8080).ok());
  for (size_t cut : {size_t{1}, preface.size() - 6, preface.size()}) {
    CAPTURE(cut);
    RawClient client(FormatIpv4(world.alice_address) + ":8080");
    client.Send(preface.substr(0, cut));
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    client.Send(preface.substr(cut) + "frames");
    client.ShutdownWrite();
    CHECK(Receive(client.fd()) == preface + "frames");
  }
  RawResponse refused = world.Fetch(preface);
  CHECK(refused.status() == 400);
  CHECK(refused.body.find("own address") != std::string::npos);
}

}  // namespace
}  // namespace ctr
