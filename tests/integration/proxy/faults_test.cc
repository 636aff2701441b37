#include <fcntl.h>

#include <filesystem>
#include <fstream>

#include <doctest/doctest.h>

#include "tests/integration/proxy/world.h"

namespace ctr {
namespace {

Program Hello() {
  return Answering([](const std::string&, const std::string&) { return Ok("hello"); });
}

// Answers each request of a connection with `bytes` and then closes it.
Program AnswerAndClose(std::string bytes) {
  return [bytes = std::move(bytes)](ServerConnection& connection) {
    connection.ReadHead();
    connection.Write(bytes);
  };
}

// No client is waited for longer.
IngressConfig HalfSecond() {
  IngressConfig config;
  const Duration half = std::chrono::milliseconds(500);
  config.limits.half_closed = config.limits.half_closed_held = half;
  config.limits.body_window = std::chrono::seconds(1);
  config.limits.write_stall = half;
  config.limits.header_timeout = config.limits.idle_timeout = half;
  return config;
}

size_t ResidentBytes() {
  std::ifstream statm("/proc/self/statm");
  size_t total = 0;
  size_t resident = 0;
  statm >> total >> resident;
  return resident * static_cast<size_t>(::sysconf(_SC_PAGESIZE));
}

TEST_CASE("errors of the ingress carry their code, as text or as JSON") {
  World world(Hello());
  RawClient client(world.address);
  RawResponse response = client.Ask("GET / HTTP/1.1\r\nHost: nosuch.localhost\r\n\r\n");
  CHECK(response.status() == 404);
  CHECK(response.Field("Ctr-Error") == "unknown_class");
  CHECK(response.body.ends_with("\n"));
  response =
      client.Ask("GET / HTTP/1.1\r\nHost: bob.web.localhost\r\nAccept: application/json\r\n\r\n");
  CHECK(response.Field("Ctr-Error") == "unknown_instance");
  CHECK(response.Field("Content-Type") == "application/json");
  CHECK(response.body.starts_with("{\"error\":{\"code\":\"unknown_instance\",\"message\":\""));
  response =
      client.Ask("HEAD / HTTP/1.1\r\nHost: nosuch.localhost\r\n\r\n", RawClient::Body::kNone);
  CHECK(response.status() == 404);
  CHECK(client.Ask(World::Get("/")).body == "hello");
}

TEST_CASE("what the waker refuses is answered by its code") {
  World world(Hello());
  RawClient client(world.address);
  world.waker.FailWith(Error(absl::StatusCode::kFailedPrecondition, code::kManualStart, "no"));
  CHECK(client.Ask(World::Get("/")).status() == 409);
  world.waker.FailWith(Error(absl::StatusCode::kUnavailable, code::kQueueFull, "no"));
  RawResponse response = client.Ask(World::Get("/"));
  CHECK(response.status() == 503);
  CHECK(response.Field("Retry-After") != "");
  world.waker.FailWith(absl::OkStatus());
  CHECK(client.Ask(World::Get("/")).status() == 200);
}

TEST_CASE("a request that waits for its start past the deadline is answered start_timeout") {
  World world(Hello());
  world.class_route->hold_timeout = std::chrono::milliseconds(50);
  world.Publish();
  world.waker.Hold();
  RawResponse response = world.Fetch(World::Get("/"));
  CHECK(response.status() == 504);
  CHECK(response.Field("Ctr-Error") == "start_timeout");
}

TEST_CASE("an instance at its max_concurrency is overloaded") {
  Latch latch;
  World world([&](ServerConnection& connection) {
    connection.ReadHead();
    latch.Wait();
    connection.Write(Ok("late"));
  });
  world.alice->set_max_concurrency(1);
  RawClient first(world.address);
  first.Send(World::Get("/"));
  CHECK(Eventually([&] { return world.server.connections() == 1; }));
  RawResponse second = world.Fetch(World::Get("/"));
  CHECK(second.status() == 503);
  CHECK(second.Field("Ctr-Error") == "overloaded");
  latch.Open();
  CHECK(first.Receive().body == "late");
}

TEST_CASE("malformed requests are answered 400 and the connection closes") {
  World world(Hello());
  const std::string host = "Host: alice.web.localhost\r\n";
  for (const std::string& bad : {
           "POST / HTTP/1.1\r\n" + host +
               "Transfer-Encoding: xchunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
           "POST / HTTP/1.1\r\n" + host +
               "Transfer-Encoding: chunked, identity\r\n\r\nGET / HTTP/1.1\r\n",
           "POST / HTTP/1.1\r\n" + host + "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx",
           "POST / HTTP/1.1\r\n" + host + "Content-Length: 1, 1\r\n\r\nx",
           "POST / HTTP/1.1\r\n" + host +
               "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
           "POST / HTTP/1.0\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
           "GET / HTTP/1.1\r\n" + host + "X: 1\r\n folded\r\n\r\n",
           "GET / HTTP/1.1\r\n" + host + host + "\r\n",
           std::string("GET / HTTP/1.1\r\n\r\n"),
           "GET / HTTP/1.1\r\n" + host + "X : 1\r\n\r\n",
           "GET / HTTP/1.1\n" + host + "\n",
           std::string("\x16\x03\x01 a TLS hello\r\n\r\n"),
       }) {
    CAPTURE(bad);
    RawClient client(world.address);
    RawResponse response = client.Ask(bad + "GET /smuggled HTTP/1.1\r\n" + host + "\r\n");
    CHECK(response.status() == 400);
    CHECK(response.Field("Ctr-Error") == "bad_request");
    CHECK(response.Field("Connection") == "close");
    client.ShutdownWrite();
    CHECK(client.Closed());
  }
  CHECK(world.waker.calls().empty());
}

TEST_CASE("a header of more than 64 KiB is answered 431") {
  World world(Hello());
  RawResponse response = world.Fetch(World::Get("/", "X: " + std::string(70'000, 'x') + "\r\n"));
  CHECK(response.status() == 431);
  CHECK(world.Fetch(World::Get("/", "X: " + std::string(60'000, 'x') + "\r\n")).status() == 200);
}

TEST_CASE("a chunked body that breaks off its framing is answered 400") {
  World world(Answering([](const std::string&, const std::string& body) { return Ok(body); }));
  RawClient client(world.address);
  RawResponse response = client.Ask(
      "POST / HTTP/1.1\r\nHost: alice.web.localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
      "5\r\nhello\r\nxyz\r\n");
  CHECK(response.status() == 400);
  CHECK(world.Idle());
}

TEST_CASE("a response whose framing is unclear is 502 upstream_error") {
  for (const std::string& bad :
       {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "SSH-2.0-OpenSSH\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: 1", ""}) {
    CAPTURE(bad);
    World world(AnswerAndClose(bad));
    RawClient client(world.address);
    RawResponse response = client.Ask(World::Get("/"));
    CHECK(response.status() == 502);
    CHECK(response.Field("Ctr-Error") == "upstream_error");
    CHECK(world.Idle());
  }
}

TEST_CASE("an instance that breaks off in a response never looks like a clean end") {
  for (const std::string& bad :
       {"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\npart",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npartXX"}) {
    CAPTURE(bad);
    World world(AnswerAndClose(bad));
    RawResponse response = world.Fetch(World::Get("/"));
    CHECK(response.status() == 200);
    CHECK_FALSE(response.complete);
    CHECK(world.Idle());
    response = world.Fetch("GET / HTTP/1.0\r\nHost: alice.web.localhost\r\n\r\n");
    CHECK_FALSE(response.complete);
    CHECK(world.Idle());
  }
}

TEST_CASE("a response until the close that is reset never looks like a clean end") {
  Latch read;
  World world([&](ServerConnection& connection) {
    connection.ReadHead();
    connection.Write("HTTP/1.1 200 OK\r\n\r\npart");
    read.Wait();
    connection.Reset();
  });
  RawClient client(world.address);
  client.Send(World::Get("/"));
  char byte;
  REQUIRE(::recv(client.fd(), &byte, 1, MSG_PEEK) == 1);
  read.Open();
  CHECK_FALSE(client.Receive().complete);
}

TEST_CASE("a kept connection that the program has closed is replaced, unseen by the client") {
  // Each connection serves one request, says nothing of closing, and closes.
  World world(AnswerAndClose(Ok("hello")), {.data_loops = 1});
  RawClient client(world.address);
  for (int i = 0; i < 20; ++i) {
    CAPTURE(i);
    RawResponse response = client.Ask(World::Get("/"));
    CHECK(response.status() == 200);
    CHECK(response.body == "hello");
  }
  CHECK(world.server.connections() == 20);
}

TEST_CASE(
    "a kept connection that closes on the next request is replaced, unless that may do harm") {
  // Every connection answers once, and closes when it is asked again; but the first of all.
  World world(
      [](ServerConnection& connection) {
        std::string head = connection.ReadHead();
        connection.ReadBody(head);
        connection.Write(Ok("hello"));
        connection.ReadHead();
      },
      {.data_loops = 1});
  RawClient client(world.address);
  CHECK(client.Ask(World::Get("/")).body == "hello");
  CHECK(client.Ask(World::Get("/")).body == "hello");
  CHECK(world.server.connections() == 2);
  RawResponse post = client.Ask(World::Post("/", "x"));
  CHECK(post.status() == 502);
  CHECK(client.Ask(World::Post("/", "x")).body == "hello");
}

TEST_CASE("an instance that has just died is woken again for the request that met it so") {
  World world(Hello(), {.data_loops = 1});
  RawClient client(world.address);
  CHECK(client.Ask(World::Get("/")).body == "hello");
  // The next start is at another place.
  auto netns = MakeNetworkNamespace();
  TestServer reborn(*netns, 8080,
                    Answering([](const std::string&, const std::string&) { return Ok("reborn"); }));
  world.waker.Add(world.alice, std::make_shared<Endpoint>(Endpoint{netns, false, 2}));
  const MonoTime before = world.alice->last_activity();
  world.server.Stop();
  client.Send(World::Get("/"));
  // It was refused and has left; now control notices.
  CHECK(Eventually([&] { return world.alice->last_activity() > before; }));
  world.alice->Close();
  RawResponse response = client.Receive();
  // On a busy machine it ran out of attempts before.
  if (response.status() != 200) response = client.Ask(World::Get("/"));
  CHECK(response.body == "reborn");
  CHECK(world.Idle());
}

TEST_CASE("a port that nothing listens on is 502 after a few attempts") {
  World world(Hello());
  RawResponse response = world.Fetch(World::Get("/", "Ctr-Port: 9090\r\n"));
  CHECK(response.status() == 502);
  CHECK(response.body.find("0.0.0.0") != std::string::npos);
  CHECK(world.Idle());
}

TEST_CASE("a client that goes away while it is held is forgotten, also by the waker") {
  World world(Hello());
  world.class_route->hold_timeout = std::chrono::hours(1);
  world.Publish();
  world.waker.Hold();
  {
    RawClient client(world.address);
    client.Send(World::Get("/"));
    CHECK(Eventually([&] { return world.waker.waiting() == 1; }));
  }
  CHECK(Eventually([&] { return world.ingress->connections() == 0; }));
  CHECK(Eventually([&] { return world.waker.waiting() == 0; }));
  world.waker.Release();
  CHECK(world.Idle());
  CHECK(world.waker.starts() == 0);
}

TEST_CASE("a client that goes away before the answer is no longer in flight") {
  Latch latch;
  World world(
      [&](ServerConnection& connection) {
        connection.ReadHead();
        CHECK(connection.ReadSome(1).empty());  // the instance is told, too
        latch.Wait();
      },
      HalfSecond());
  {
    RawClient client(world.address);
    client.Send(World::Get("/"));
    CHECK(Eventually([&] { return world.server.connections() == 1; }));
    CHECK(world.alice->in_flight() == 1);
  }
  CHECK(world.Idle());
  latch.Open();
}

TEST_CASE("a client that goes away in the middle of a large answer is no longer in flight") {
  World world([&](ServerConnection& connection) {
    connection.ReadHead();
    connection.Write("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
    while (connection.Write(std::string(65536, 'x'))) {
    }
  });
  {
    RawClient client(world.address);
    client.Send(World::Get("/"));
    char bytes[1000];
    CHECK(::recv(client.fd(), bytes, sizeof bytes, 0) > 0);
  }
  CHECK(world.Idle());
}

TEST_CASE("a client that goes away in the middle of its body is no longer in flight") {
  std::atomic<size_t> received{0};
  World world([&](ServerConnection& connection) {
    const std::string head = connection.ReadHead();
    received = connection.ReadBody(head).size();
  });
  for (std::string_view framing : {"Content-Length: 1000", "Transfer-Encoding: chunked"}) {
    RawClient client(world.address);
    client.Send(absl::StrCat("POST / HTTP/1.1\r\nHost: alice.web.localhost\r\n",
                             std::string(framing), "\r\n\r\n3\r\nabc\r\n"));
    CHECK(Eventually([&] { return world.alice->in_flight() == 1; }));
    client.Close();
    CHECK(world.Idle());
  }
}

TEST_CASE("an instance that breaks off in the middle of a body is answered for as 502") {
  World world([](ServerConnection& connection) { connection.ReadHead(); });
  RawClient client(world.address);
  client.Send("POST / HTTP/1.1\r\nHost: alice.web.localhost\r\nContent-Length: 1000\r\n\r\nx");
  RawResponse response = client.Receive();
  CHECK(response.status() == 502);
  CHECK(response.Field("Ctr-Error") == "upstream_error");
  CHECK(world.Idle());
}

TEST_CASE("a client whose body does not come is answered 408, a slow instance's is waited for") {
  Latch latch;
  World world(
      [&](ServerConnection& connection) {
        const std::string head = connection.ReadHead();
        if (head.starts_with("POST /slow ")) latch.Wait();
        const std::string body = connection.ReadBody(head);
        connection.Write(Ok(absl::StrCat(body.size())));
      },
      HalfSecond());
  const std::string large(8 << 20, 'x');
  RawClient waiting(world.address);
  std::thread sender([&] { waiting.Send(World::Post("/slow", large)); });
  RawClient dripping(world.address);
  dripping.Send("POST / HTTP/1.1\r\nHost: alice.web.localhost\r\nContent-Length: 1000\r\n\r\nx");
  RawResponse response = dripping.Receive();
  CHECK(response.status() == 408);
  CHECK(response.Field("Ctr-Error") == "bad_request");
  std::this_thread::sleep_for(std::chrono::seconds(2));
  latch.Open();
  CHECK(waiting.Receive().body == absl::StrCat(large.size()));
  sender.join();
  CHECK(world.Idle());
}

TEST_CASE("a client that takes nothing of its answer is cut off") {
  World world(
      [&](ServerConnection& connection) {
        connection.ReadHead();
        connection.Write("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
        while (connection.Write(std::string(65536, 'x'))) {
        }
      },
      HalfSecond());
  RawClient client(world.address);
  client.Send(World::Get("/"));
  CHECK(Eventually([&] { return world.alice->in_flight() == 1; }));
  CHECK(world.Idle());
}

TEST_CASE("64 MiB pass both ways without being held in memory") {
  constexpr size_t kSize = 64 << 20;
  World world([](ServerConnection& connection) {
    const std::string head = connection.ReadHead();
    if (head.starts_with("POST")) {
      size_t left = kSize;
      while (left > 0) {
        const std::string some = connection.ReadSome(65536);
        if (some.empty()) return;
        left -= some.size();
      }
    }
    connection.Write(absl::StrCat("HTTP/1.1 200 OK\r\nContent-Length: ", kSize, "\r\n\r\n"));
    const std::string piece(1 << 20, 'x');
    for (size_t sent = 0; sent < kSize; sent += piece.size()) {
      if (!connection.Write(piece)) return;
    }
  });
  const size_t before = ResidentBytes();
  RawClient client(world.address);
  std::thread sender([&] {
    client.Send(absl::StrCat(
        "POST / HTTP/1.1\r\nHost: alice.web.localhost\r\nContent-Length: ", kSize, "\r\n\r\n"));
    const std::string piece(1 << 20, 'x');
    for (size_t sent = 0; sent < kSize; sent += piece.size()) client.Send(piece);
  });
  sender.join();
  std::string bytes(65536, '\0');
  size_t received = 0;
  size_t most = 0;
  while (received < kSize) {
    const ssize_t size = ::recv(client.fd(), bytes.data(), bytes.size(), 0);
    REQUIRE(size > 0);
    received += static_cast<size_t>(size);
    most = std::max(most, ResidentBytes());
  }
#if __has_feature(address_sanitizer)
  constexpr size_t kAllowed = 400 << 20;  // it keeps freed memory
#else
  constexpr size_t kAllowed = 24 << 20;
#endif
  CHECK(most - before < kAllowed);
  CHECK(world.Idle());
}

TEST_CASE("a connection that sends no request is closed after the header's time") {
  IngressConfig config;
  config.limits.header_timeout = std::chrono::milliseconds(100);
  config.limits.idle_timeout = std::chrono::milliseconds(100);
  World world(Hello(), config);
  RawClient silent(world.address);
  RawClient slow(world.address);
  slow.Send("GET / HTTP/1.1\r\nHo");
  RawClient idle(world.address);
  CHECK(idle.Ask(World::Get("/")).body == "hello");
  CHECK(silent.Closed());
  CHECK(slow.Receive().status() == 408);
  CHECK(slow.Closed());
  CHECK(idle.Closed());
}

TEST_CASE("connections beyond the limits are closed, and those that are open go on") {
  IngressConfig config;
  config.connections = {.total = 3, .per_client = 2, .loopback_too = true};
  World world(Hello(), config);
  RawClient first(world.address);
  RawClient second(world.address);
  CHECK(first.Ask(World::Get("/")).body == "hello");
  CHECK(second.Ask(World::Get("/")).body == "hello");
  CHECK(RawClient(world.address).Closed());
  CHECK(first.Ask(World::Get("/")).body == "hello");
  second.Close();
  CHECK(Eventually([&] { return world.ingress->connections() == 1; }));
  CHECK(world.Fetch(World::Get("/")).body == "hello");
}

TEST_CASE("a drain answers what was sent, also on idle connections, and closes the rest") {
  Latch latch;
  std::atomic<bool> held{false};
  World world([&](ServerConnection& connection) {
    for (std::string head = connection.ReadHead(); !head.empty(); head = connection.ReadHead()) {
      if (head.starts_with("GET /held")) {
        held = true;
        latch.Wait();
      }
      connection.Write(Ok("late"));
    }
  });
  RawClient idle(world.address);
  RawClient kept(world.address);
  CHECK(kept.Ask(World::Get("/")).Field("Connection").empty());
  RawClient busy(world.address);
  busy.Send(World::Get("/held"));
  CHECK(Eventually([&] { return held.load(); }));
  asio::io_context control;
  bool drained = false;
  asio::co_spawn(control, world.ingress->Drain(std::chrono::seconds(20), IdleConnections::kEnd),
                 [&](std::exception_ptr) { drained = true; });
  control.run_for(std::chrono::milliseconds(50));
  CHECK_FALSE(drained);
  CHECK_FALSE(RawClient(world.address).connected());
  CHECK(kept.Ask(World::Get("/")).Field("Connection") == "close");
  CHECK(kept.Closed());
  latch.Open();
  RawResponse response = busy.Receive();
  CHECK(response.body == "late");
  CHECK(response.Field("Connection") == "close");
  busy.Close();
  kept.Close();
  control.run();
  CHECK(drained);
  CHECK(idle.Closed());
}

TEST_CASE("a drain ends at its limit, and stopping cuts off what is left") {
  Latch latch;
  World world([&](ServerConnection& connection) {
    connection.ReadHead();
    latch.Wait();
  });
  RawClient busy(world.address);
  busy.Send(World::Get("/"));
  CHECK(Eventually([&] { return world.server.connections() == 1; }));
  asio::io_context control;
  asio::co_spawn(control,
                 world.ingress->Drain(std::chrono::milliseconds(20), IdleConnections::kEnd),
                 asio::detached);
  control.run();
  world.ingress->Stop();
  CHECK(world.alice->in_flight() == 0);
  CHECK(busy.Closed());
  latch.Open();
}

TEST_CASE("stopping does not wait for a waker that never answers") {
  World world(Hello());
  world.waker.HoldDeaf();
  RawClient held(world.address);
  held.Send(World::Get("/"));
  CHECK(Eventually([&] { return world.waker.waiting() == 1; }));
  const auto begin = std::chrono::steady_clock::now();
  world.ingress->Stop();
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(4));
  CHECK(held.Closed());
}

// Descriptors of this process, each with what it is.
std::map<int, std::string> OpenDescriptors() {
  std::map<int, std::string> descriptors;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    const std::string target = std::filesystem::read_symlink(entry.path(), gone).string();
    if (!gone) descriptors[std::stoi(entry.path().filename())] = target;
  }
  return descriptors;
}

TEST_CASE("no descriptor of the ingress leaks into a process that is started meanwhile") {
  const std::map<int, std::string> inherited = OpenDescriptors();
  Latch latch;
  World world([&](ServerConnection& connection) {
    connection.ReadHead();
    latch.Wait();
    connection.Write(Ok("late"));
  });
  RawClient client(world.address);
  client.Send(World::Get("/"));
  CHECK(Eventually([&] { return world.server.connections() == 1; }));
  for (const auto& [fd, target] : OpenDescriptors()) {
    if (inherited.contains(fd)) continue;
    CAPTURE(target);
    const int flags = ::fcntl(fd, F_GETFD);
    CHECK((flags < 0 || (flags & FD_CLOEXEC) != 0));
  }
  latch.Open();
  CHECK(client.Receive().body == "late");
}

}  // namespace
}  // namespace ctr
