// A request's way to an instance: from the address that it came to (the first line, a digit), its
// Host and its Ctr-* fields (the head behind that).
#include <string>

#include <nlohmann/json.hpp>

#include "agent/proxy/error_answer.h"
#include "agent/proxy/route_table.h"
#include "tests/fuzz/http.h"

namespace ctr {
namespace {

constexpr uint32_t kAliceAddress = 0x7F4D0002;
constexpr uint32_t kWebAddress = 0x7F4C0002;
constexpr uint32_t kNobodysAddress = 0x7F4D0003;

std::shared_ptr<const ClassRoute> MakeClass(ClassRoute of_class,
                                            std::initializer_list<const char*> ids) {
  for (const char* id : ids) {
    of_class.slots[id] = std::make_shared<Slot>(InstanceName{of_class.name, id});
  }
  return std::make_shared<const ClassRoute>(std::move(of_class));
}

RouteTable MakeTable() {
  RouteTable table;
  table.domains = {"localhost", "apps.example.com", "example.com"};
  ClassRoute web;
  web.name = "web";
  web.default_port = 8080;
  web.ports = {{8080, Protocol::kHttp}, {9090, Protocol::kHttp}};
  ClassRoute open;
  open.name = "open";
  open.ports = {{80, Protocol::kHttp}, {5432, Protocol::kTcp}};
  open.create_by_request = true;
  ClassRoute job;
  job.name = "job";
  table.classes["web"] = MakeClass(std::move(web), {"alice", "instance-0"});
  table.classes["open"] = MakeClass(std::move(open), {"bob"});
  table.classes["job"] = MakeClass(std::move(job), {"one"});
  const auto& of_web = table.classes["web"];
  table.instances_by_address[kAliceAddress] = {of_web, of_web->slots.at("alice")};
  table.classes_by_address[kWebAddress] = of_web;
  return table;
}

// As a session fills it in.
RequestTarget TargetOf(char listener, const RequestHead& head) {
  RequestTarget target;
  target.host = head.host;
  for (const Field& field : head.fields) {
    if (field.id == FieldId::kCtrInstance) target.ctr_instance = field.value;
    if (field.id == FieldId::kCtrClass) target.ctr_class = field.value;
    if (field.id == FieldId::kCtrPort) target.ctr_port = field.value;
  }
  constexpr uint32_t kAddresses[] = {0, kAliceAddress, kWebAddress, kNobodysAddress};
  const unsigned choice = static_cast<unsigned char>(listener) % 4;
  target.local_address = kAddresses[choice];
  target.local_port = listener & 4 ? 9090 : 8080;
  target.by_address = choice != 0;
  return target;
}

void CheckError(const Status& error) {
  const std::string code = ErrorCodeOf(error);
  CTR_HOLDS(code == code::kBadRequest || code == code::kUnknownClass ||
            code == code::kUnknownInstance);
  for (bool json : {false, true}) {
    const std::string answer = ErrorAnswer(error, {.json = json, .keep_alive = true});
    const size_t head_size = ScanHead(answer, LineEnds::kStrict, answer.size() / 2);
    CTR_HOLDS(head_size > 0);
    CheckLines(std::string_view(answer).substr(0, head_size));
    const StatusOr<ResponseHead> head =
        ParseResponseHead(std::string_view(answer).substr(0, head_size), AnswerTo::kOther);
    CTR_HOLDS(head.ok() && head->body.length == answer.size() - head_size);
    CTR_HOLDS(answer.find('\n', head_size) == answer.size() - 1);
    if (json) CTR_HOLDS(nlohmann::json::accept(answer.substr(head_size)));
  }
}

void CheckRoute(const Route& route, const RequestTarget& target) {
  const ClassRoute& of_class = *route.class_route;
  CTR_HOLDS(std::any_of(of_class.ports.begin(), of_class.ports.end(), [&](const PortConfig& each) {
    return each.port == route.port && each.protocol == Protocol::kHttp;
  }));
  CTR_HOLDS(route.id.empty() || IsDnsLabel(route.id));
  if (route.slot) CTR_HOLDS(route.slot->name() == (InstanceName{of_class.name, route.id}));
  if (!route.slot && !route.id.empty()) CTR_HOLDS(of_class.create_by_request);
  if (target.by_address) {
    CTR_HOLDS(of_class.name == "web" && route.port == target.local_port);
    CTR_HOLDS(route.id == (target.local_address == kAliceAddress ? "alice" : ""));
    CTR_HOLDS(target.local_address != kNobodysAddress);
  }
}

}  // namespace

void Fuzz(std::string_view input) {
  static const RouteTable table = MakeTable();
  if (input.size() < 2 || input[1] != '\n') return;
  const std::string_view bytes = input.substr(2);
  const size_t size = ScanHead(bytes, LineEnds::kStrict, bytes.size() / 2);
  if (size == 0) return;
  const StatusOr<RequestHead> head = ParseRequestHead(bytes.substr(0, size));
  if (!head.ok()) return CheckError(head.status());
  const RequestTarget target = TargetOf(input[0], *head);
  const StatusOr<Route> route = ResolveRoute(table, target);
  if (!route.ok()) return CheckError(route.status());
  CheckRoute(*route, target);
}

}  // namespace ctr
