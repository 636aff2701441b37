// The choice among a class's instances by the data loops, and what they learn for it.
#include <sys/resource.h>

#include <doctest/doctest.h>

#include "agent/base/descriptors.h"
#include "tests/integration/proxy/world.h"

namespace ctr::nearest_test {
namespace {

using namespace std::chrono_literals;

Program Hello() {
  return Answering([](const std::string&, const std::string&) { return Ok("hello"); });
}

// Its class routes to the nearest of three.
struct NearestWorld : World {
  explicit NearestWorld(Program program, IngressConfig config = {})
      : World(std::move(program), std::move(config)) {
    class_route->policy = RoutePolicy::kNearest;
    for (int i = 0; i < 3; ++i) class_route->pool.push_back(class_route->slots.at(RoutedId(i)));
    Publish();
  }
  void Open(int index) { class_route->pool[static_cast<size_t>(index)]->Open(endpoint); }
  Slot& slot(int index) { return *class_route->pool[static_cast<size_t>(index)]; }
  // Whether it has shown no latency and no failure.
  bool Unjudged(int index) {
    const SlotLoad& load = slot(index).load();
    return !load.latency.Load(std::chrono::steady_clock::now()).has_sample() &&
           load.ejection().count == 0;
  }
  static std::string Ask() { return "GET / HTTP/1.1\r\nHost: web.localhost\r\n\r\n"; }
  std::string Chosen(RawClient& client) { return client.Ask(Ask()).Field("Ctr-Instance"); }
};

TEST_CASE("a request to the class goes to one that is awake, and wakes no other") {
  NearestWorld world(Hello());
  world.Open(1);
  RawClient client(world.address);
  for (int i = 0; i < 5; ++i) CHECK(world.Chosen(client) == "web/instance-1");
  CHECK(world.waker.calls().empty());
}

TEST_CASE(
    "while requests wait for a place another one goes behind them, and each that ends is told") {
  NearestWorld world(Hello());
  world.Open(1);
  world.waker.PickFor("web", {"web", "instance-1"});
  std::atomic<int> places = 0;
  world.slot(1).SetQueue(std::make_shared<const Slot::OnPlace>([&] { ++places; }));
  RawClient client(world.address);
  CHECK(world.Chosen(client) == "web/instance-1");
  CHECK(world.waker.calls().size() == 1);
  CHECK(Eventually([&] { return places == 1; }));
  world.slot(1).SetQueue(nullptr);
  CHECK(world.Chosen(client) == "web/instance-1");
  CHECK(world.waker.calls().size() == 1);
}

TEST_CASE("while none is awake the waker says which it is") {
  NearestWorld world(Hello());
  world.waker.PickFor("web", {"web", "instance-2"});
  RawClient client(world.address);
  CHECK(world.Chosen(client) == "web/instance-2");
  CHECK(world.waker.calls().size() == 1);
}

TEST_CASE("one that is overloaded, or fails its readiness check, gets none while another can") {
  NearestWorld world(Hello());
  for (int i = 0; i < 3; ++i) world.Open(i);
  world.slot(0).load().set_overloaded(true);
  world.slot(2).load().set_passing(false);
  RawClient client(world.address);
  for (int i = 0; i < 10; ++i) CHECK(world.Chosen(client) == "web/instance-1");
}

TEST_CASE("an instance that answers errors at once is soon left alone") {
  NearestWorld world(Answering([](const std::string&, const std::string&) {
    return "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
  }));
  world.Open(0);
  RawClient client(world.address);
  for (int i = 0; i < 5; ++i) CHECK(client.Ask(NearestWorld::Ask()).status() == 503);
  CHECK(world.slot(0).load().latency.Load(std::chrono::steady_clock::now()).average_ns >= 1e9);
  // Of one alone no half can be ejected.
  CHECK(world.slot(0).load().ejection().count == 0);
  world.Open(1);
  world.Open(2);
  for (int i = 0; i < 20; ++i) client.Ask(NearestWorld::Ask());
  int ejected = 0;
  for (int i = 0; i < 3; ++i) ejected += world.slot(i).load().ejection().count > 0;
  CHECK(ejected == 1);  // not more than half of them, though all are broken
}

TEST_CASE("what an answer took is learnt, and nothing is followed after it") {
  NearestWorld world(Answering([](const std::string&, const std::string&) {
    std::this_thread::sleep_for(30ms);
    return Ok("slow");
  }));
  world.Open(0);
  RawClient client(world.address);
  CHECK(client.Ask(NearestWorld::Ask()).status() == 200);
  const MonoTime now = std::chrono::steady_clock::now();
  CHECK(world.slot(0).load().latency.Load(now).average_ns >= 25e6);
  CHECK(world.slot(0).load().waiting.Age(now + 1s) == Duration::zero());
}

TEST_CASE("one that refuses connections is passed over for another") {
  NearestWorld world(Hello(), {.data_loops = 1});
  // A namespace where nothing listens.
  auto nowhere = std::make_shared<Endpoint>(Endpoint{MakeNetworkNamespace(), false, 1});
  world.slot(0).Open(nowhere);
  RawClient client(world.address);
  world.slot(1).Open(world.endpoint);
  for (int i = 0; i < 10; ++i) CHECK(client.Ask(NearestWorld::Ask()).status() == 200);
}

TEST_CASE("a request that goes on to another instance is no longer followed at the first") {
  NearestWorld world(Hello(), {.data_loops = 1});
  std::atomic<bool> asked = false;
  auto netns = MakeNetworkNamespace();
  TestServer dying(*netns, 8080, [&](ServerConnection& connection) {
    connection.ReadHead();
    connection.Write(Ok("hello"));
    asked = !connection.ReadHead().empty();
    connection.ReadSome(1);  // until it dies
  });
  world.slot(0).Open(std::make_shared<Endpoint>(Endpoint{netns, false, 1}));
  RawClient client(world.address);
  CHECK(world.Chosen(client) == "web/instance-0");
  client.Send(NearestWorld::Ask());
  CHECK(Eventually([&] { return asked.load(); }));
  world.Open(1);
  dying.Stop();
  CHECK(client.Receive().Field("Ctr-Instance") == "web/instance-1");
  const MonoTime later = std::chrono::steady_clock::now() + 1h;
  CHECK(world.slot(0).load().waiting.Age(later) == Duration::zero());
}

TEST_CASE("a client that goes away in the middle of its body is no failure of the instance") {
  NearestWorld world(
      [](ServerConnection& connection) { connection.ReadBody(connection.ReadHead()); });
  for (int i = 0; i < 3; ++i) world.Open(i);
  for (int i = 1; i < 3; ++i) world.slot(i).load().set_overloaded(true);
  for (int i = 0; i < 10; ++i) {
    RawClient client(world.address);
    client.Send("POST / HTTP/1.1\r\nHost: web.localhost\r\nContent-Length: 1000\r\n\r\nx");
    CHECK(Eventually([&] { return world.server.connections() == i + 1; }));
    client.Close();
    CHECK(Eventually([&] { return world.slot(0).in_flight() == 0; }));
  }
  CHECK(world.Unjudged(0));
}

TEST_CASE("a client that goes away before an interim response is no failure of the instance") {
  std::atomic<int> gone = 0;
  NearestWorld world([&](ServerConnection& connection) {
    connection.ReadHead();
    gone.wait(connection.number());
    for (int i = 0; i < 50; ++i) {
      if (!connection.Write("HTTP/1.1 103 Early Hints\r\n\r\n")) break;
    }
    connection.ReadSome(1);
  });
  for (int i = 0; i < 3; ++i) world.Open(i);
  for (int i = 1; i < 3; ++i) world.slot(i).load().set_overloaded(true);
  for (int i = 0; i < 10; ++i) {
    RawClient client(world.address);
    client.Send(NearestWorld::Ask());
    CHECK(Eventually([&] { return world.server.connections() == i + 1; }));
    client.Close();
    ++gone;
    gone.notify_one();
    CHECK(Eventually([&] { return world.slot(0).in_flight() == 0; }));
  }
  CHECK(world.Unjudged(0));
}

// As long as it lives this process can open no file, and knows it.
struct NoDescriptors {
  NoDescriptors() {
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
    ReserveDescriptors();
    ReleaseDescriptors();
    const rlimit none = {.rlim_cur = 3, .rlim_max = before.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
  }
  ~NoDescriptors() {
    ::setrlimit(RLIMIT_NOFILE, &before);
    asio::io_context io;
    asio::co_spawn(io, WatchDescriptors(), asio::detached);
    io.poll();
    CHECK_FALSE(DescriptorsAreScarce());
  }

  rlimit before = {};
};

TEST_CASE("an agent without descriptors is no failure of its instances") {
  NearestWorld world(Hello(), {.data_loops = 1});
  for (int i = 0; i < 3; ++i) world.Open(i);
  RawClient client(world.address);
  CHECK(Eventually([&] { return world.ingress->connections() == 1; }));
  {
    const NoDescriptors none;
    for (int i = 0; i < 5; ++i) {
      RawResponse response = client.Ask(NearestWorld::Ask());
      CHECK(response.status() == 503);
      CHECK(response.Field("Ctr-Error") == "overloaded");
    }
  }
  for (int i = 0; i < 3; ++i) CHECK(world.Unjudged(i));
  CHECK(client.Ask(NearestWorld::Ask()).status() == 200);
}

TEST_CASE("an instance that does not answer within response_timeout is given up as 504") {
  NearestWorld world([](ServerConnection& connection) {
    connection.ReadSome(1000);
    connection.ReadSome(1);  // until it is closed
  });
  world.class_route->response_timeout = 1s;
  world.Publish();
  world.Open(0);
  RawResponse response = world.Fetch(NearestWorld::Ask());
  CHECK(response.status() == 504);
  CHECK(response.Field("Ctr-Error") == "upstream_timeout");
  CHECK(response.body.find("response_timeout") != std::string::npos);
}

TEST_CASE("a request that was not answered within response_timeout is not sent again") {
  std::atomic<int> heads = 0;
  NearestWorld world(
      [&](ServerConnection& connection) {
        while (!connection.ReadHead().empty()) {
          if (++heads == 1) connection.Write(Ok("hello"));
        }
      },
      {.data_loops = 1});
  world.class_route->response_timeout = 1s;
  world.Publish();
  world.Open(0);
  RawClient client(world.address);
  CHECK(client.Ask(NearestWorld::Ask()).body == "hello");
  CHECK(client.Ask(NearestWorld::Ask()).status() == 504);
  world.server.Stop();  // having read all that came
  CHECK(heads == 2);
}

TEST_CASE("time in which an instance that died is woken does not count for response_timeout") {
  std::atomic<bool> asked = false;
  World world(
      [&](ServerConnection& connection) {
        connection.ReadHead();
        connection.Write(Ok("hello"));
        asked = !connection.ReadHead().empty();
        connection.ReadSome(1);  // until it dies
      },
      {.data_loops = 1});
  world.class_route->response_timeout = 1s;
  world.Publish();
  RawClient client(world.address);
  CHECK(client.Ask(World::Get("/")).body == "hello");
  client.Send(World::Get("/"));
  CHECK(Eventually([&] { return asked.load(); }));
  auto netns = MakeNetworkNamespace();
  TestServer reborn(*netns, 8080, Hello());
  world.waker.Add(world.alice, std::make_shared<Endpoint>(Endpoint{netns, false, 2}));
  world.waker.Hold();
  world.alice->Close();
  world.server.Stop();
  CHECK(Eventually([&] { return world.waker.waiting() == 1; }));
  // When a request that was asked later runs out, the time of this one has passed, too.
  auto quiet = MakeNetworkNamespace();
  TestServer silent(*quiet, 8080, [](ServerConnection& connection) {
    connection.ReadHead();
    connection.ReadSome(1);  // until it is closed
  });
  world.class_route->slots.at("instance-0")
      ->Open(std::make_shared<Endpoint>(Endpoint{quiet, false, 1}));
  CHECK(world.Fetch("GET / HTTP/1.1\r\nHost: instance-0.web.localhost\r\n\r\n").status() == 504);
  world.waker.Release();
  CHECK(client.Receive().status() == 200);
}

TEST_CASE("time in which a client sends its body does not count for response_timeout") {
  NearestWorld world(
      Answering([](const std::string&, const std::string& body) { return Ok(body); }));
  world.class_route->response_timeout = 1s;
  world.Publish();
  world.Open(0);
  RawClient client(world.address);
  client.Send("POST / HTTP/1.1\r\nHost: web.localhost\r\nContent-Length: 4\r\n\r\n");
  for (char c : std::string("body")) {
    std::this_thread::sleep_for(700ms);
    client.Send(std::string(1, c));
  }
  CHECK(client.Receive().body == "body");
}

}  // namespace
}  // namespace ctr::nearest_test
