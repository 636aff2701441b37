#pragma once

#include <unistd.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include <doctest/doctest.h>

#include "absl/strings/str_cat.h"
#include "agent/base/clock.h"
#include "agent/proxy/ingress.h"
#include "tests/fakes/fake_waker.h"
#include "tests/integration/proxy/raw_client.h"
#include "tests/integration/proxy/test_server.h"

namespace ctr {

// Whether `condition` comes true within 20 seconds.
inline bool Eventually(const std::function<bool()>& condition) {
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > limit) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

// Two ranges of loopback addresses that no other test of this machine uses: 254 by 8 blocks of /24.
inline Ipv4Range TestRange(int which) {
  const auto block = static_cast<uint32_t>(::getpid()) % 2000 * 2 + static_cast<uint32_t>(which);
  return {127u << 24 | (100 + block / 250) << 16 | (1 + block % 250) << 8, 24};
}

// Without a service manager.
inline FdStore& NothingKept() {
  static FdStore none;
  return none;
}

// An ingress with one class, `web`, of one instance, `alice`, that sleeps: its port 8080 is a
// server in a network namespace of its own. And `instance-0` to `instance-2`, the same server.
struct World {
  explicit World(Program program, IngressConfig config = {})
      : netns(MakeNetworkNamespace()), server(*netns, 8080, std::move(program)) {
    endpoint = std::make_shared<Endpoint>(Endpoint{netns, false, 1});
    class_route = std::make_shared<ClassRoute>();
    class_route->name = "web";
    class_route->default_port = 8080;
    class_route->ports = {{8080, Protocol::kHttp}, {9090, Protocol::kHttp}};
    class_route->hold_timeout = std::chrono::seconds(20);
    alice = AddInstance("alice");
    for (int i = 0; i < 3; ++i) AddInstance(RoutedId(i));

    config.http = {"127.0.0.1:0"};
    if (config.ranges.empty()) config.ranges = {TestRange(0), TestRange(1)};
    if (config.data_loops == 0) config.data_loops = 2;
    alice_address = config.ranges[0].base + 2;
    class_address = config.ranges[1].base + 2;
    Publish();
    ingress = std::make_unique<Ingress>(config, routes, waker, clock, NothingKept());
    Status opened = ingress->Open();
    REQUIRE_MESSAGE(opened.ok(), opened.ToString());
    ingress->Start();
    address = ingress->http_addresses().front();
  }
  // What is in flight at the end was leaked.
  ~World() {
    ingress.reset();
    for (const auto& [id, slot] : class_route->slots) CHECK(slot->in_flight() == 0);
  }

  std::shared_ptr<Slot> AddInstance(const std::string& id) {
    auto slot = std::make_shared<Slot>(InstanceName{"web", id});
    class_route->slots[id] = slot;
    waker.Add(slot, endpoint);
    return slot;
  }
  void Publish() {
    auto table = std::make_shared<RouteTable>();
    table->classes["web"] = class_route;
    table->instances_by_address[alice_address] = {class_route, alice};
    table->classes_by_address[class_address] = class_route;
    routes.Publish(std::move(table));
  }
  bool Idle() {
    return Eventually([this] { return alice->in_flight() == 0; });
  }
  // A request to alice, without body.
  static std::string Get(std::string_view path, std::string_view fields = "") {
    return absl::StrCat("GET ", std::string(path), " HTTP/1.1\r\nHost: alice.web.localhost\r\n",
                        std::string(fields), "\r\n");
  }
  static std::string Post(std::string_view path, std::string_view body,
                          std::string_view fields = "") {
    return absl::StrCat("POST ", std::string(path), " HTTP/1.1\r\nHost: alice.web.localhost\r\n",
                        std::string(fields), "Content-Length: ", body.size(), "\r\n\r\n",
                        std::string(body));
  }
  RawResponse Fetch(std::string_view request) { return RawClient(address).Ask(request); }

  std::shared_ptr<const NetworkNamespace> netns;
  TestServer server;
  std::shared_ptr<const Endpoint> endpoint;
  std::shared_ptr<ClassRoute> class_route;
  std::shared_ptr<Slot> alice;
  uint32_t alice_address = 0;
  uint32_t class_address = 0;
  SystemClock clock;
  RoutePublisher routes;
  FakeWaker waker;
  std::unique_ptr<Ingress> ingress;
  std::string address;
};

}  // namespace ctr
