#include <vector>

#include <doctest/doctest.h>

#include "tests/integration/proxy/world.h"

namespace ctr {
namespace {

std::string Repeat(size_t size) {
  std::string body(size, '\0');
  for (size_t i = 0; i < size; ++i) body[i] = static_cast<char>('a' + i * 7 % 23);
  return body;
}

TEST_CASE("a request to a sleeping instance wakes it and is answered by it") {
  World world(Answering([](const std::string& head, const std::string&) { return Ok(head); }));
  RawResponse response = world.Fetch(World::Get("/x?y"));
  CHECK(response.status() == 200);
  CHECK(response.complete);
  CHECK(response.body.starts_with("GET /x?y HTTP/1.1\r\nHost: alice.web.localhost\r\n"));
  CHECK(response.body.find("X-Forwarded-For: 127.0.0.1\r\n") != std::string::npos);
  CHECK(response.Field("Ctr-Instance") == "web/alice");
  CHECK(response.Field("Server-Timing").starts_with("wake;dur="));
  CHECK(world.waker.starts() == 1);
  CHECK(world.Idle());

  response = world.Fetch(World::Get("/"));
  CHECK(response.Field("Server-Timing").starts_with("wake;dur=0.000, route;dur="));
  CHECK(world.waker.calls().size() == 1);
}

TEST_CASE("an instance's own address reaches it, whatever the host says") {
  World world(Answering([](const std::string&, const std::string&) { return Ok("hello"); }));
  REQUIRE(world.ingress->steering().Add(world.alice_address, 8080).ok());
  RawClient client(FormatIpv4(world.alice_address) + ":8080");
  REQUIRE(client.connected());
  RawResponse response = client.Ask("GET / HTTP/1.1\r\nHost: bob.open.localhost\r\n\r\n");
  CHECK(response.body == "hello");
  CHECK(response.Field("Ctr-Instance") == "web/alice");
}

TEST_CASE("a class's address and name go to each of its instances alike") {
  World world(Answering([](const std::string&, const std::string&) { return Ok("hello"); }));
  REQUIRE(world.ingress->steering().Add(world.class_address, 8080).ok());
  std::map<std::string, int> seen;
  for (const std::string& address : {FormatIpv4(world.class_address) + ":8080", world.address}) {
    RawClient client(address);
    for (int i = 0; i < 150; ++i) {
      ++seen[client.Ask("GET / HTTP/1.1\r\nHost: web.localhost\r\n\r\n").Field("Ctr-Instance")];
    }
  }
  CHECK(seen.size() == 3);
  for (const auto& [name, count] : seen) {
    CAPTURE(name);
    CHECK(count > 60);
    CHECK(count < 140);
  }
  for (const FakeWaker::Call& call : world.waker.calls()) CHECK(call.origin == WakeOrigin::kRoute);
}

TEST_CASE("connections are kept on both sides") {
  World world(Answering([](const std::string&, const std::string&) { return Ok("hello"); }),
              {.data_loops = 1});
  for (int i = 0; i < 3; ++i) {
    RawClient client(world.address);
    for (int j = 0; j < 20; ++j) REQUIRE(client.Ask(World::Get("/")).body == "hello");
  }
  CHECK(world.server.connections() == 1);
}

TEST_CASE("a request is counted once, whether by a new connection or by a kept one") {
  World world(Answering([](const std::string&, const std::string&) { return Ok("hello"); }),
              {.data_loops = 2});  // each has kept connections of its own
  for (int i = 0; i < 6; ++i) REQUIRE(world.Fetch(World::Get("/")).body == "hello");
  CHECK(world.Idle());
  CHECK(world.alice->served() == 6);
}

TEST_CASE("pipelined requests are answered in order") {
  World world(Answering([](const std::string& head, const std::string& body) {
    return Ok(head.substr(0, head.find(" HTTP")) + body);
  }));
  RawClient client(world.address);
  client.Send(World::Get("/1") + World::Post("/2", "body") + World::Get("/3"));
  CHECK(client.Receive().body == "GET /1");
  CHECK(client.Receive().body == "POST /2body");
  CHECK(client.Receive().body == "GET /3");
}

TEST_CASE("200 concurrent requests to a sleeping instance are 200 answers and one start") {
  World world(Answering([](const std::string&, const std::string&) { return Ok("hello"); }));
  world.waker.Hold();
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 200; ++i) {
    clients.push_back(std::make_unique<RawClient>(world.address));
    clients.back()->Send(World::Get("/"));
  }
  CHECK(Eventually([&] { return world.waker.waiting() == 200; }));
  world.waker.Release();
  int answers = 0;
  for (const auto& client : clients) answers += client->Receive().body == "hello";
  CHECK(answers == 200);
  CHECK(world.waker.starts() == 1);
  CHECK(world.Idle());
}

TEST_CASE("a body of known length arrives as it was sent, large or small") {
  World world(Answering([](const std::string&, const std::string& body) { return Ok(body); }));
  RawClient client(world.address);
  for (size_t size : {0, 1, 100, 4096, 70'000, 3'000'000}) {
    CAPTURE(size);
    const std::string body = Repeat(size);
    std::thread sender([&] { client.Send(World::Post("/", body)); });
    RawResponse response = client.Receive();
    sender.join();
    CHECK(response.complete);
    CHECK(response.body == body);
  }
  CHECK(world.Idle());
}

TEST_CASE("a chunked request is chunked to the instance, its end included") {
  World world(Answering([](const std::string& head, const std::string& body) {
    return Ok((head.find("Transfer-Encoding: chunked\r\n") != std::string::npos) ? body : head);
  }));
  RawClient client(world.address);
  client.Send("POST / HTTP/1.1\r\nHost: alice.web.localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
  client.Send("5\r\nhello\r\n");
  client.Send("6;x=y\r\n world\r\n0\r\nX-Trailer: 1\r\n\r\n");
  CHECK(client.Receive().body == "hello world");
  CHECK(client.Ask(World::Post("/", "again")).head.starts_with("HTTP/1.1 200"));
}

TEST_CASE("a chunked response is chunked to the client, chunk by chunk as it comes") {
  Latch latch;
  World world([&](ServerConnection& connection) {
    while (!connection.ReadHead().empty()) {
      connection.Write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
      latch.Wait();
      connection.Write("6\r\n world\r\n0\r\n\r\n");
    }
  });
  RawClient client(world.address);
  client.Send(World::Get("/"));
  std::string begun;
  char bytes[4096];
  while (begun.find("hello\r\n") == std::string::npos) {
    const ssize_t size = ::recv(client.fd(), bytes, sizeof bytes, 0);
    REQUIRE(size > 0);
    begun.append(bytes, static_cast<size_t>(size));
  }
  CHECK(world.alice->in_flight() == 1);
  latch.Open();
  RawResponse next = client.Ask(World::Get("/"));  // reads on from the middle of the first
  CHECK(next.head.find("world") != std::string::npos);
  CHECK(world.Idle());
}

TEST_CASE("a response that ends with the connection is chunked, or closes one of HTTP/1.0") {
  World world([](ServerConnection& connection) {
    connection.ReadHead();
    connection.Write("HTTP/1.0 200 OK\r\n\r\nhello");
  });
  RawClient client(world.address);
  for (int i = 0; i < 3; ++i) {
    RawResponse response = client.Ask(World::Get("/"));
    CHECK(response.Field("Transfer-Encoding") == "chunked");
    CHECK(response.complete);
    CHECK(response.body == "hello");
  }
  RawResponse old =
      world.Fetch("GET / HTTP/1.0\r\nHost: alice.web.localhost\r\nConnection: keep-alive\r\n\r\n");
  CHECK(old.Field("Transfer-Encoding") == "");
  CHECK(old.Field("Connection") == "close");
  CHECK(old.complete);
  CHECK(old.body == "hello");
}

TEST_CASE("a client of HTTP/1.0 is closed after its answer, or kept if it asks") {
  World world(Answering([](const std::string&, const std::string&) { return Ok("hello"); }));
  RawClient once(world.address);
  CHECK(once.Ask("GET / HTTP/1.0\r\nHost: alice.web.localhost\r\n\r\n").body == "hello");
  CHECK(once.Closed());
  RawClient kept(world.address);
  for (int i = 0; i < 2; ++i) {
    RawResponse response =
        kept.Ask("GET / HTTP/1.0\r\nHost: alice.web.localhost\r\nConnection: Keep-Alive\r\n\r\n");
    CHECK(response.body == "hello");
    CHECK(response.Field("Connection") == "keep-alive");
  }
}

TEST_CASE("answers without a body leave the connection in step") {
  World world(Answering([](const std::string& head, const std::string&) -> std::string {
    if (head.starts_with("HEAD")) return "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n";
    if (head.starts_with("GET /204")) return "HTTP/1.1 204 No Content\r\n\r\n";
    if (head.starts_with("GET /304")) {
      return "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n";
    }
    return Ok("hello");
  }));
  RawClient client(world.address);
  RawResponse head =
      client.Ask("HEAD / HTTP/1.1\r\nHost: alice.web.localhost\r\n\r\n", RawClient::Body::kNone);
  CHECK(head.Field("Content-Length") == "1000");
  CHECK(client.Ask(World::Get("/204")).status() == 204);
  CHECK(client.Ask(World::Get("/304")).Field("Content-Length") == "9");
  CHECK(client.Ask(World::Get("/")).body == "hello");
  CHECK(world.server.connections() == 1);
}

TEST_CASE("interim responses reach the client before the answer, but not one of HTTP/1.0") {
  World world(Answering([](const std::string&, const std::string&) {
    return "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" +
           Ok("hello");
  }));
  RawClient client(world.address);
  for (int i = 0; i < 2; ++i) {
    RawResponse hints = client.Ask(World::Get("/"));
    CHECK(hints.status() == 103);
    CHECK(hints.Field("Link") == "</a>");
    CHECK(hints.Field("Ctr-Instance") == "");
    RawResponse response = client.Receive();
    CHECK(response.status() == 200);
    CHECK(response.body == "hello");
  }
  CHECK(world.Fetch("GET / HTTP/1.0\r\nHost: alice.web.localhost\r\n\r\n").status() == 200);
}

TEST_CASE("interim responses without end are refused") {
  World world([](ServerConnection& connection) {
    connection.ReadHead();
    while (connection.Write("HTTP/1.1 100 Continue\r\n\r\n")) {
    }
  });
  RawResponse response = world.Fetch(World::Get("/"));
  CHECK(response.status() == 502);
  CHECK(response.Field("Ctr-Error") == "upstream_error");
}

constexpr char kExpecting[] =
    "POST / HTTP/1.1\r\nHost: alice.web.localhost\r\nExpect: 100-continue\r\n"
    "Content-Length: 5\r\n\r\n";

TEST_CASE("the instance decides whether a client that expects 100 Continue sends its body") {
  World world([](ServerConnection& connection) {
    const std::string head = connection.ReadHead();
    if (head.find("Expect: 100-continue\r\n") == std::string::npos) return;
    if (connection.number() == 0) {
      connection.Write("HTTP/1.1 100 Continue\r\n\r\n");
      connection.Write(Ok(connection.ReadBody(head)));
    } else {
      connection.Write("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n");
      connection.ReadSome(1);
    }
  });
  RawClient client(world.address);
  CHECK(client.Ask(kExpecting).status() == 100);
  CHECK(client.Ask("hello").body == "hello");
  RawClient refused(world.address);
  RawResponse response = refused.Ask(kExpecting);
  CHECK(response.status() == 401);
  CHECK(response.Field("Connection") == "close");
}

TEST_CASE("where the instance knows no Expect, the client gets its 100 Continue all the same") {
  World world(Answering([](const std::string&, const std::string& body) { return Ok(body); }));
  RawClient client(world.address);
  CHECK(client.Ask(kExpecting).status() == 100);
  CHECK(client.Ask("hello").body == "hello");
}

TEST_CASE("trailers go both ways") {
  World world([](ServerConnection& connection) {
    std::string request;
    while (!request.ends_with("\r\nX-Sum: 1\r\n\r\n")) request += connection.ReadSome(65536);
    connection.Write(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\n"
        "X-Sum: 2\r\n\r\n");
  });
  RawClient client(world.address);
  client.Send(
      "POST / HTTP/1.1\r\nHost: alice.web.localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
      "5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n");
  std::string answer;
  char bytes[4096];
  while (!answer.ends_with("X-Sum: 2\r\n\r\n")) {
    const ssize_t size = ::recv(client.fd(), bytes, sizeof bytes, 0);
    REQUIRE(size > 0);
    answer.append(bytes, static_cast<size_t>(size));
  }
  CHECK(answer.find("Trailer: X-Sum\r\n") != std::string::npos);
}

TEST_CASE("a client that has closed its side after its request gets its answer") {
  World world([](ServerConnection& connection) {
    connection.ReadHead();
    std::this_thread::sleep_for(std::chrono::milliseconds(1200));
    connection.Write("HTTP/1.1 200 OK\r\n\r\nhel");
    std::this_thread::sleep_for(std::chrono::milliseconds(1200));
    connection.Write("lo");
  });
  RawClient client(world.address);
  client.Send(World::Get("/"));
  client.ShutdownWrite();
  RawResponse response = client.Receive();
  CHECK(response.body == "hello");
  CHECK(response.complete);
}

TEST_CASE("a client that expects 100 Continue and sends its body at once gets one answer") {
  World world(Answering([](const std::string&, const std::string& body) { return Ok(body); }));
  RawClient client(world.address);
  CHECK(client.Ask(World::Post("/", "hello", "Expect: 100-continue\r\n")).body == "hello");
}

TEST_CASE("an answer before the request's end reaches the client, and the connection closes") {
  World world([](ServerConnection& connection) {
    connection.ReadHead();
    connection.Write("HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\n\r\nno!\n");
    while (!connection.ReadSome(65536).empty()) {
    }
  });
  RawClient client(world.address);
  client.Send(
      "POST / HTTP/1.1\r\nHost: alice.web.localhost\r\nContent-Length: 100000000\r\n\r\nbegin");
  RawResponse response = client.Receive();
  CHECK(response.status() == 413);
  CHECK(response.body == "no!\n");
  CHECK(response.Field("Connection") == "close");
  CHECK(world.Idle());
  client.ShutdownWrite();
  CHECK(client.Closed());
}

TEST_CASE("an instance that answers before it reads gets all of the request, and the next one") {
  World world([](ServerConnection& connection) {
    for (std::string head; !(head = connection.ReadHead()).empty();) {
      connection.Write(Ok("early"));
      connection.ReadBody(head);
    }
  });
  RawClient client(world.address);
  client.Send("POST / HTTP/1.1\r\nHost: alice.web.localhost\r\nContent-Length: 20000\r\n\r\n");
  RawResponse response = client.Receive();
  CHECK(response.body == "early");
  CHECK(response.Field("Connection") == "");
  CHECK_FALSE(world.alice->in_flight() == 0);
  CHECK(client.Ask(Repeat(20'000) + World::Get("/next")).body == "early");
  CHECK(world.Idle());
  CHECK(world.server.connections() == 2);  // who knows whether it has read the rest
}

TEST_CASE(
    "an answer to a client that was never told to send its body says that the connection closes") {
  World world([](ServerConnection& connection) {
    connection.ReadHead();
    connection.Write(Ok("done"));
    connection.ReadSome(1);
  });
  RawClient client(world.address);
  RawResponse response = client.Ask(kExpecting);
  CHECK(response.body == "done");
  CHECK(response.Field("Connection") == "close");
}

TEST_CASE("what a client sends beside its last request does not take the answer from it") {
  Latch arrived;
  Latch sent;
  const std::string body = Repeat(300'000);
  World world(Answering([&](const std::string&, const std::string&) {
    arrived.Open();
    sent.Wait();
    return Ok(body);
  }));
  RawClient client(world.address);
  client.Send(World::Post("/", "hello", "Connection: close\r\n"));
  arrived.Wait();
  client.Send("\r\n");
  sent.Open();
  CHECK(world.Idle());  // all of the answer is on its way before any of it is read
  const RawResponse response = client.Receive();
  CHECK(response.complete);
  CHECK((response.body == body));
  client.ShutdownWrite();
  CHECK(client.Closed());
}

TEST_CASE("request and response flow at the same time") {
  World world([](ServerConnection& connection) {
    connection.ReadHead();
    connection.Write("HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n");
    for (std::string some; !(some = connection.ReadSome(65536)).empty();) connection.Write(some);
  });
  RawClient client(world.address);
  const std::string body = Repeat(2'000'000);
  std::thread sender([&] { client.Send(World::Post("/", body)); });
  RawResponse response = client.Receive();
  sender.join();
  CHECK(response.complete);
  CHECK(response.body == body);
  CHECK(world.Idle());
}

TEST_CASE("a response that takes long arrives whole, and is in flight until its end") {
  Latch latch;
  World world([&](ServerConnection& connection) {
    connection.ReadHead();
    latch.Wait();
    connection.Write(Ok("late"));
  });
  RawClient client(world.address);
  client.Send(World::Get("/"));
  CHECK(Eventually([&] { return world.server.connections() == 1; }));
  CHECK(world.alice->in_flight() == 1);
  latch.Open();
  CHECK(client.Receive().body == "late");
  CHECK(world.Idle());
}

TEST_CASE("Ctr-* fields choose on loopback, and do not reach the instance") {
  World world(Answering([](const std::string& head, const std::string&) { return Ok(head); }));
  RawClient client(world.address);
  RawResponse response =
      client.Ask("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nCtr-Instance: web/alice\r\n\r\n");
  CHECK(response.status() == 200);
  CHECK(response.body.find("Ctr-") == std::string::npos);
  response =
      client.Ask("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nCtr-Class: web\r\nCtr-Class: web\r\n\r\n");
  CHECK(response.status() == 400);
}

}  // namespace
}  // namespace ctr
