#include "agent/proxy/route_table.h"

#include <string>

#include <doctest/doctest.h>

namespace ctr::route_table_test {
namespace {

constexpr uint32_t kAlice = 0x7F4D0002;    // 127.77.0.2
constexpr uint32_t kWeb = 0x7F4C0002;      // 127.76.0.2
constexpr uint32_t kIngress = 0x7F000001;  // 127.0.0.1
constexpr uint16_t kIngressPort = 8080;

std::shared_ptr<Slot> MakeSlot(std::string class_name, std::string id) {
  return std::make_shared<Slot>(InstanceName{std::move(class_name), std::move(id)});
}

// Classes: web (8080 and 9090, alice), open (made by request), job, and db, whose only port is tcp.
RouteTable MakeTable() {
  RouteTable table;
  table.domains = {"localhost", "example.com", "apps.example.com"};
  auto web = std::make_shared<ClassRoute>();
  web->name = "web";
  web->default_port = 8080;
  web->ports = {{8080, Protocol::kHttp}, {9090, Protocol::kHttp}};
  web->address = kWeb;
  web->slots["alice"] = MakeSlot("web", "alice");
  table.classes["web"] = web;
  table.classes_by_address[kWeb] = web;
  table.instances_by_address[kAlice] = {web, web->slots["alice"]};

  auto open = std::make_shared<ClassRoute>();
  open->name = "open";
  open->default_port = 80;
  open->ports = {{80, Protocol::kHttp}};
  open->create_by_request = true;
  table.classes["open"] = open;

  auto job = std::make_shared<ClassRoute>();
  job->name = "job";
  job->slots["once"] = MakeSlot("job", "once");
  table.classes["job"] = job;

  auto db = std::make_shared<ClassRoute>();
  db->name = "db";
  db->ports = {{5432, Protocol::kTcp}};
  table.classes["db"] = db;
  return table;
}

RequestTarget ByHost(std::string_view host) {
  RequestTarget target;
  target.local_address = kIngress;
  target.local_port = kIngressPort;
  target.host = host;
  return target;
}

RequestTarget ByAddress(uint32_t address, uint16_t port) {
  RequestTarget target;
  target.local_address = address;
  target.local_port = port;
  target.by_address = true;
  return target;
}

// "class/id:port", or the error's code.
std::string Resolve(const RequestTarget& target) {
  StatusOr<Route> route = ResolveRoute(MakeTable(), target);
  if (!route.ok()) return ErrorCodeOf(route.status());
  if (route->slot) CHECK(route->slot->name().id == route->id);
  return route->class_route->name + "/" + route->id + ":" + std::to_string(route->port);
}

std::string Message(const RequestTarget& target) {
  return std::string(ResolveRoute(MakeTable(), target).status().message());
}

TEST_CASE("a name of a domain says instance and class, or the class alone") {
  CHECK(Resolve(ByHost("alice.web.localhost")) == "web/alice:8080");
  CHECK(Resolve(ByHost("web.localhost")) == "web/:8080");
  CHECK(Resolve(ByHost("alice.web.example.com")) == "web/alice:8080");
  CHECK(Resolve(ByHost("web.apps.example.com")) == "web/:8080");
}

TEST_CASE("case, port and a trailing dot of a name do not matter") {
  CHECK(Resolve(ByHost("Alice.WEB.LocalHost:8080")) == "web/alice:8080");
  CHECK(Resolve(ByHost("alice.web.localhost.")) == "web/alice:8080");
  CHECK(Resolve(ByHost("alice.web.localhost.:80")) == "web/alice:8080");
}

TEST_CASE("localhost is a domain whatever the table says") {
  RouteTable table = MakeTable();
  table.domains = {"example.com"};
  CHECK(ResolveRoute(table, ByHost("alice.web.localhost")).ok());
}

TEST_CASE("a host that is under no domain names no class") {
  CHECK(Resolve(ByHost("alice.web.example.org")) == "unknown_class");
  CHECK(Resolve(ByHost("notlocalhost")) == "unknown_class");
  CHECK(Resolve(ByHost("localhost")) == "unknown_class");
  CHECK(Resolve(ByHost("127.0.0.1:8080")) == "unknown_class");
  CHECK(Resolve(ByHost("[::1]:8080")) == "unknown_class");
  CHECK(Resolve(ByHost("")) == "unknown_class");
  CHECK(Resolve(ByHost("a.b.web.localhost")) == "unknown_class");
  CHECK(Resolve(ByHost(".web.localhost")) == "unknown_class");
  CHECK(Resolve(ByHost("nosuch.localhost")) == "unknown_class");
}

TEST_CASE("an ID that is not known is refused unless the class lets requests create it") {
  CHECK(Resolve(ByHost("bob.web.localhost")) == "unknown_instance");
  CHECK(Message(ByHost("bob.web.localhost")).find("ctr get web/bob") != std::string::npos);
  CHECK(Resolve(ByHost("bob.open.localhost")) == "open/bob:80");
  CHECK(Resolve(ByHost("b_b.open.localhost")) == "bad_request");
}

TEST_CASE("a job has no port to send a request to, and the error says so") {
  CHECK(Resolve(ByHost("once.job.localhost")) == "bad_request");
  CHECK(Message(ByHost("once.job.localhost")).find("is a job") != std::string::npos);
}

TEST_CASE("a tcp port takes no HTTP request by name") {
  RequestTarget target = ByHost("db.localhost");
  CHECK(Resolve(target) == "bad_request");
  target.ctr_port = "5432";
  CHECK(Message(target).find("speaks tcp") != std::string::npos);
}

TEST_CASE("Ctr-Instance and Ctr-Class choose where the host names nothing") {
  RequestTarget target = ByHost("127.0.0.1:8080");
  target.ctr_instance = "web/alice";
  CHECK(Resolve(target) == "web/alice:8080");
  target.ctr_class = "web";
  CHECK(Resolve(target) == "web/alice:8080");
  target.ctr_instance = "";
  CHECK(Resolve(target) == "web/:8080");
  target.ctr_class = "nosuch";
  CHECK(Resolve(target) == "unknown_class");
}

TEST_CASE("a name and a header that disagree are a bad request") {
  RequestTarget target = ByHost("alice.web.localhost");
  target.ctr_instance = "web/bob";
  CHECK(Resolve(target) == "bad_request");
  target.ctr_instance = "open/alice";
  CHECK(Resolve(target) == "bad_request");
  target.ctr_instance = "";
  target.ctr_class = "open";
  CHECK(Resolve(target) == "bad_request");
}

TEST_CASE("a name and a header that say the same, or one of them more, agree") {
  RequestTarget target = ByHost("alice.web.localhost");
  target.ctr_instance = "web/alice";
  CHECK(Resolve(target) == "web/alice:8080");
  target.ctr_instance = "";
  target.ctr_class = "web";
  CHECK(Resolve(target) == "web/alice:8080");
  target = ByHost("web.localhost");
  target.ctr_instance = "web/alice";
  CHECK(Resolve(target) == "web/alice:8080");
}

TEST_CASE("a malformed Ctr-Instance is a bad request") {
  for (std::string_view bad : {"alice", "web/", "/alice", "web/Alice", "web/a/b", "web/a\xff"}) {
    CAPTURE(bad);
    RequestTarget target = ByHost("127.0.0.1");
    target.ctr_instance = bad;
    CHECK(Resolve(target) == "bad_request");
  }
  RequestTarget contrary = ByHost("127.0.0.1");
  contrary.ctr_instance = "web/alice";
  contrary.ctr_class = "open";
  CHECK(Resolve(contrary) == "bad_request");
}

TEST_CASE("Ctr-Port picks another declared port, and no other") {
  RequestTarget target = ByHost("alice.web.localhost");
  target.ctr_port = "9090";
  CHECK(Resolve(target) == "web/alice:9090");
  for (std::string_view bad : {"9091", "0", "-1", "65536", "9090x", "0x10", " 9090"}) {
    CAPTURE(bad);
    target.ctr_port = bad;
    CHECK(Resolve(target) == "bad_request");
  }
}

TEST_CASE("an instance's address chooses it, and its port the port") {
  CHECK(Resolve(ByAddress(kAlice, 8080)) == "web/alice:8080");
  CHECK(Resolve(ByAddress(kAlice, 9090)) == "web/alice:9090");
  CHECK(Resolve(ByAddress(kAlice, 9091)) == "bad_request");
  CHECK(Resolve(ByAddress(kAlice + 1, 8080)) == "unknown_instance");
}

// web's alice was started when the class's ports were others.
class OlderPorts {
 public:
  explicit OlderPorts(std::vector<PortConfig> now) : table_(MakeTable()) {
    auto web = std::make_shared<ClassRoute>(*table_.classes.at("web"));
    web->default_port = now.empty() ? 0 : now[0].port;
    web->ports = std::move(now);
    auto started = std::make_shared<ClassConfig>();
    started->default_port = 8080;
    started->ports = {{8080, Protocol::kHttp}, {5432, Protocol::kTcp}};
    web->older["alice"] = std::move(started);
    web_ = web;
    table_.classes["web"] = table_.classes_by_address[kWeb] = web;
    table_.instances_by_address[kAlice].class_route = web;
  }
  void End() { web_->older.clear(); }
  std::string Resolve(RequestTarget target, std::string_view ctr_port = "") {
    target.ctr_port = ctr_port;
    StatusOr<Route> route = ResolveRoute(table_, target);
    if (!route.ok()) return ErrorCodeOf(route.status());
    return std::to_string(route->port) + (route->protocol == Protocol::kTcp ? " tcp" : " http");
  }

 private:
  RouteTable table_;
  std::shared_ptr<ClassRoute> web_;
};

TEST_CASE("an instance that runs has the ports that it was started with until it ends") {
  const RequestTarget name = ByHost("alice.web.localhost");
  RequestTarget connection = ByAddress(kAlice, 5432);
  connection.connection = true;
  for (const std::vector<PortConfig>& now :
       {std::vector<PortConfig>{}, std::vector<PortConfig>{{9000, Protocol::kTcp}}}) {
    OlderPorts world(now);
    CHECK(world.Resolve(name) == "8080 http");
    CHECK(world.Resolve(name, "8080") == "8080 http");
    CHECK(world.Resolve(name, "8081") == "bad_request");
    CHECK(world.Resolve(ByAddress(kAlice, 8080)) == "8080 http");
    CHECK(world.Resolve(connection) == "5432 tcp");
    CHECK(world.Resolve(ByHost("web.localhost")) == "bad_request");
    world.End();
    CHECK(world.Resolve(name) == "bad_request");
    CHECK(world.Resolve(ByAddress(kAlice, 8080)) == "bad_request");
    CHECK(world.Resolve(connection) == "bad_request");
  }
}

TEST_CASE("the class's default port is that of older instances as well, if it takes requests") {
  OlderPorts world({{9000, Protocol::kHttp}});
  CHECK(world.Resolve(ByHost("alice.web.localhost")) == "9000 http");
  CHECK(world.Resolve(ByHost("alice.web.localhost"), "8080") == "8080 http");
}

TEST_CASE("a port that changes its protocol keeps the older one where it runs") {
  OlderPorts world({{8080, Protocol::kTcp}, {5432, Protocol::kHttp}});
  CHECK(world.Resolve(ByHost("alice.web.localhost")) == "8080 http");
  CHECK(world.Resolve(ByAddress(kAlice, 5432)) == "bad_request");
}

TEST_CASE("a new default port that the older instance has as one of tcp is not its default") {
  OlderPorts world({{5432, Protocol::kHttp}, {8080, Protocol::kHttp}});
  CHECK(world.Resolve(ByHost("alice.web.localhost")) == "8080 http");
}

ClassConfig StartedWith(std::vector<PortConfig> ports) {
  ClassConfig started;
  if (!ports.empty()) started.default_port = ports[0].port;
  started.ports = std::move(ports);
  return started;
}

// Which port of alice, once she was let in; 0 if the request is refused then. web has 8080 and
// 9090, both http, when the route is found, and `newest` later.
int PortOnAlice(const ClassConfig& started, std::string_view ctr_port,
                const RouteTable& newest = MakeTable()) {
  RequestTarget target = ByHost("alice.web.localhost");
  target.ctr_port = ctr_port;
  StatusOr<Route> route = ResolveRoute(MakeTable(), target);
  REQUIRE(route.ok());
  StatusOr<uint16_t> port = PortOn(*route, "alice", started, newest);
  if (!port.ok()) CHECK(ErrorCodeOf(port.status()) == "bad_request");
  return port.value_or(0);
}

TEST_CASE("a request goes to the port that it was found for, or to the instance's own default") {
  CHECK(PortOnAlice(StartedWith({{8080, Protocol::kHttp}}), "") == 8080);
  CHECK(PortOnAlice(StartedWith({{80, Protocol::kHttp}}), "") == 80);
  CHECK(PortOnAlice(StartedWith({{80, Protocol::kHttp}, {8080, Protocol::kHttp}}), "") == 8080);
  CHECK(PortOnAlice(StartedWith({{80, Protocol::kHttp}, {8080, Protocol::kTcp}}), "") == 80);
}

TEST_CASE("a request that waited while its instance was started anew meets no undeclared port") {
  RouteTable without = MakeTable();
  auto web = std::make_shared<ClassRoute>(*without.classes.at("web"));
  web->ports = {{80, Protocol::kHttp}};
  web->default_port = 80;
  without.classes["web"] = web;
  const ClassConfig started = StartedWith({{80, Protocol::kHttp}});
  CHECK(PortOnAlice(started, "9090", without) == 0);
  CHECK(PortOnAlice(StartedWith({}), "", without) == 0);
  CHECK(PortOnAlice(StartedWith({{80, Protocol::kTcp}}), "", without) == 0);
  CHECK(PortOnAlice(StartedWith({{8080, Protocol::kTcp}}), "", without) == 0);
  CHECK(PortOnAlice(started, "9090") == 9090);  // which its class has declared since its start
}

TEST_CASE("a class's address routes by the class's policy") {
  CHECK(Resolve(ByAddress(kWeb, 8080)) == "web/:8080");
  CHECK(Resolve(ByAddress(kWeb, 22)) == "bad_request");
}

TEST_CASE("on an address of its own the host does not choose") {
  RequestTarget target = ByAddress(kAlice, 8080);
  target.host = "bob.open.localhost";
  CHECK(Resolve(target) == "web/alice:8080");
}

TEST_CASE("on an address of its own a header may only agree") {
  RequestTarget target = ByAddress(kAlice, 8080);
  target.ctr_instance = "web/alice";
  target.ctr_port = "8080";
  CHECK(Resolve(target) == "web/alice:8080");
  target.ctr_port = "9090";
  CHECK(Resolve(target) == "bad_request");
  target.ctr_port = "";
  target.ctr_instance = "web/bob";
  CHECK(Resolve(target) == "bad_request");
  target.ctr_instance = "";
  target.ctr_class = "open";
  CHECK(Resolve(target) == "bad_request");
  target = ByAddress(kWeb, 8080);
  target.ctr_instance = "web/alice";
  CHECK(Resolve(target) == "bad_request");
}

TEST_CASE("a reader sees the newest table") {
  RoutePublisher publisher;
  RouteReader reader(publisher);
  CHECK(reader.Newest().classes.empty());
  publisher.Publish(std::make_shared<RouteTable>(MakeTable()));
  CHECK(reader.Newest().classes.contains("web"));
}

}  // namespace
}  // namespace ctr::route_table_test
