#include "agent/proxy/route_table.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "agent/base/ipv4.h"

namespace ctr {
namespace {

constexpr char kClassPayload[] = "ctr.class";

// A class and maybe an ID, as an address, a header or a name says it. Views into the request or
// the table.
struct Choice {
  std::string_view class_name;
  std::string_view id;
};

// What a client sent, fit to be quoted in a message.
std::string Text(std::string_view view) {
  return absl::CHexEscape(absl::string_view(view.data(), std::min<size_t>(view.size(), 100)));
}

Status BadRequest(std::string_view message) {
  return Error(absl::StatusCode::kInvalidArgument, code::kBadRequest, message);
}

Status UnknownClass(std::string_view message) {
  return Error(absl::StatusCode::kNotFound, code::kUnknownClass, message);
}

// Lower case, without port and trailing dot.
std::string HostName(std::string_view host) {
  if (size_t colon = host.rfind(':'); colon != std::string_view::npos) {
    host = host.substr(0, colon);
  }
  if (host.ends_with('.')) host.remove_suffix(1);
  return absl::AsciiStrToLower(absl::string_view(host.data(), host.size()));
}

// What stands before the longest domain that `host` is under; nothing if it is under none.
std::optional<std::string_view> BeforeDomain(std::string_view host,
                                             const std::vector<std::string>& domains) {
  size_t longest = 0;
  const auto consider = [&](std::string_view domain) {
    if (host.size() > domain.size() + 1 && host.ends_with(domain) &&
        host[host.size() - domain.size() - 1] == '.') {
      longest = std::max(longest, domain.size());
    }
  };
  consider("localhost");
  for (const std::string& domain : domains) consider(domain);
  if (longest == 0) return std::nullopt;
  return host.substr(0, host.size() - longest - 1);
}

// `<id>.<class>` or `<class>`; nothing for more labels than that.
std::optional<Choice> ChoiceByName(std::string_view labels) {
  const size_t dot = labels.find('.');
  if (dot == std::string_view::npos) return Choice{labels, {}};
  Choice choice{labels.substr(dot + 1), labels.substr(0, dot)};
  if (choice.id.empty() || choice.class_name.find('.') != std::string_view::npos) {
    return std::nullopt;
  }
  return choice;
}

StatusOr<std::optional<Choice>> ChoiceByHeader(const RequestTarget& target) {
  Choice choice;
  if (!target.ctr_instance.empty()) {
    const size_t slash = target.ctr_instance.find('/');
    if (slash == std::string_view::npos) {
      return BadRequest(absl::StrCat("Ctr-Instance: \"", Text(target.ctr_instance),
                                     "\" is no instance; write class/id"));
    }
    choice = {target.ctr_instance.substr(0, slash), target.ctr_instance.substr(slash + 1)};
    if (!IsDnsLabel(choice.class_name) || !IsDnsLabel(choice.id)) {
      return BadRequest(absl::StrCat("Ctr-Instance: \"", Text(target.ctr_instance),
                                     "\" is no instance; class and id are lower-case DNS labels"));
    }
    if (!target.ctr_class.empty() && target.ctr_class != choice.class_name) {
      return BadRequest(absl::StrCat("Ctr-Instance says class ", Text(choice.class_name),
                                     ", Ctr-Class says ", Text(target.ctr_class),
                                     "; send one of them"));
    }
  } else if (!target.ctr_class.empty()) {
    choice.class_name = target.ctr_class;
  } else {
    return std::optional<Choice>();
  }
  return std::optional<Choice>(choice);
}

bool Disagree(const Choice& a, const Choice& b) {
  return a.class_name != b.class_name || (!a.id.empty() && !b.id.empty() && a.id != b.id);
}

// Of an instance that runs with other ports than its class has by now; else null.
const ClassConfig* OlderConfig(const ClassRoute& class_route, std::string_view id) {
  if (class_route.older.empty()) return nullptr;
  const auto found = class_route.older.find(id);
  return found == class_route.older.end() ? nullptr : found->second.get();
}

const PortConfig* FindDeclared(const ClassRoute& class_route, const ClassConfig* older,
                               uint16_t port) {
  if (older != nullptr) {
    if (const PortConfig* declared = older->FindPort(port)) return declared;
  }
  const auto found = std::find_if(class_route.ports.begin(), class_route.ports.end(),
                                  [&](const PortConfig& it) { return it.port == port; });
  return found == class_route.ports.end() ? nullptr : &*found;
}

// Where a request goes that says no port. Of an older instance it is the class's, too, if that can
// take one: PortOn knows what it is there.
uint16_t DefaultPort(const ClassRoute& class_route, const ClassConfig* older) {
  if (older == nullptr || !older->default_port) return class_route.default_port;
  const PortConfig* newest = FindDeclared(class_route, older, class_route.default_port);
  const bool takes_requests = newest != nullptr && newest->protocol == Protocol::kHttp;
  return takes_requests ? newest->port : *older->default_port;
}

StatusOr<uint16_t> ChoosePort(const ClassRoute& class_route, const ClassConfig* older,
                              std::string_view ctr_port) {
  if (class_route.ports.empty() && (older == nullptr || older->ports.empty())) {
    return BadRequest(
        absl::StrCat("class ", class_route.name, " is a job: it has no port to send a request to"));
  }
  if (ctr_port.empty()) {
    if (const uint16_t port = DefaultPort(class_route, older); port != 0) return port;
    return BadRequest(absl::StrCat("class ", class_route.name,
                                   " has no default_port; send Ctr-Port with one of its ports"));
  }
  uint16_t port = 0;
  auto [end, error] = std::from_chars(ctr_port.data(), ctr_port.data() + ctr_port.size(), port);
  if (error != std::errc() || end != ctr_port.data() + ctr_port.size()) {
    return BadRequest(absl::StrCat("Ctr-Port: \"", Text(ctr_port), "\" is no port"));
  }
  return port;
}

StatusOr<Protocol> CheckPort(const ClassRoute& class_route, const ClassConfig* older, uint16_t port,
                             bool connection) {
  const PortConfig* declared = FindDeclared(class_route, older, port);
  if (declared == nullptr) {
    return BadRequest(absl::StrCat("class ", class_route.name, " declares no port ", port,
                                   "; add it to the class file as [[port]]"));
  }
  if (declared->protocol == Protocol::kHttp || connection) return declared->protocol;
  return BadRequest(absl::StrCat("port ", port, " of class ", class_route.name,
                                 " speaks tcp, not http; connect to the instance's address"));
}

// The request came in on an address of an instance or class: that chooses, and whatever else the
// request says may only agree.
StatusOr<Route> RouteByAddress(std::shared_ptr<const ClassRoute> class_route,
                               std::shared_ptr<Slot> slot, const RequestTarget& target) {
  CTR_ASSIGN_OR_RETURN(std::optional<Choice> header, ChoiceByHeader(target));
  Choice here{class_route->name, {}};
  if (slot) here.id = slot->name().id;
  // An address chooses alone: on a class's, Ctr-Instance can't pick one of it, so it contradicts.
  if (header && (Disagree(*header, here) || (!slot && !header->id.empty()))) {
    return BadRequest(
        absl::StrCat("the address ", FormatIpv4(target.local_address), " is that of ",
                     slot ? slot->name().ToString() : "class " + class_route->name,
                     "; the request's Ctr-Instance or Ctr-Class says something else"));
  }
  const ClassConfig* older = OlderConfig(*class_route, here.id);
  CTR_ASSIGN_OR_RETURN(const Protocol protocol,
                       CheckPort(*class_route, older, target.local_port, target.connection));
  if (!target.ctr_port.empty() && target.ctr_port != std::to_string(target.local_port)) {
    return BadRequest(absl::StrCat("Ctr-Port: ", Text(target.ctr_port), " on a connection to port ",
                                   target.local_port, "; connect to the port that is meant"));
  }
  Route route;
  if (slot) route.id = slot->name().id;
  route.class_route = std::move(class_route);
  route.slot = std::move(slot);
  route.port = target.local_port;
  route.protocol = protocol;
  return route;
}

StatusOr<Route> RouteByChoice(const RouteTable& table, const Choice& choice,
                              std::string_view ctr_port) {
  auto found = table.classes.find(choice.class_name);
  if (found == table.classes.end()) {
    return UnknownClass(
        absl::StrCat("there is no class \"", Text(choice.class_name), "\"; see: ctr class ls"));
  }
  Route route;
  route.class_route = found->second;
  const ClassConfig* older = OlderConfig(*route.class_route, choice.id);
  CTR_ASSIGN_OR_RETURN(route.port, ChoosePort(*route.class_route, older, ctr_port));
  CTR_ASSIGN_OR_RETURN(route.protocol, CheckPort(*route.class_route, older, route.port, false));
  if (choice.id.empty()) return route;
  route.id = choice.id;
  if (auto slot = route.class_route->slots.find(choice.id);
      slot != route.class_route->slots.end()) {
    route.slot = slot->second;
    return route;
  }
  if (Status valid = CheckDnsLabel(choice.id, "instance ID"); !valid.ok()) {
    return BadRequest(std::string(valid.message()));
  }
  if (!route.class_route->create_by_request) {
    std::string name = absl::StrCat(Text(choice.class_name), "/", Text(choice.id));
    Status unknown =
        Error(absl::StatusCode::kNotFound, code::kUnknownInstance,
              absl::StrCat("there is no instance ", name, "; create it with: ctr get ", name));
    unknown.SetPayload(kClassPayload, absl::Cord(route.class_route->name));
    return unknown;
  }
  return route;
}

}  // namespace

std::string ClassOf(const Status& error) {
  const absl::optional<absl::Cord> name = error.GetPayload(kClassPayload);
  return name ? std::string(*name) : "";
}

StatusOr<uint16_t> PortOn(const Route& route, const std::string& id, const ClassConfig& started,
                          const RouteTable& newest) {
  const auto fits = [&](const PortConfig* port) {
    return port != nullptr && port->protocol == route.protocol;
  };
  const PortConfig* declared = started.FindPort(route.port);
  if (fits(declared)) return route.port;
  if (started.default_port && route.port == route.class_route->default_port &&
      fits(started.FindPort(*started.default_port))) {
    return *started.default_port;
  }
  // Its class has declared it since.
  const auto found = newest.classes.find(route.class_route->name);
  if (declared == nullptr && found != newest.classes.end() &&
      fits(FindDeclared(*found->second, nullptr, route.port))) {
    return route.port;
  }
  return BadRequest(
      absl::StrCat(route.class_route->name, "/", id, " was started ",
                   declared == nullptr ? "without port " : "with another protocol on port ",
                   route.port, "; see: ctr class show ", route.class_route->name));
}

StatusOr<Route> ResolveRoute(const RouteTable& table, const RequestTarget& target) {
  if (target.local_address != 0) {
    if (auto found = table.instances_by_address.find(target.local_address);
        found != table.instances_by_address.end()) {
      return RouteByAddress(found->second.class_route, found->second.slot, target);
    }
    if (auto found = table.classes_by_address.find(target.local_address);
        found != table.classes_by_address.end()) {
      return RouteByAddress(found->second, nullptr, target);
    }
  }
  if (target.by_address) {
    return Error(absl::StatusCode::kNotFound, code::kUnknownInstance,
                 absl::StrCat("no instance has the address ", FormatIpv4(target.local_address),
                              " any more; see: ctr ls -a"));
  }

  CTR_ASSIGN_OR_RETURN(std::optional<Choice> header, ChoiceByHeader(target));
  const std::string host = HostName(target.host);
  std::optional<Choice> name;
  if (auto labels = BeforeDomain(host, table.domains)) name = ChoiceByName(*labels);
  if (!header && !name) {
    return UnknownClass(absl::StrCat("the host \"", host,
                                     "\" names no class; send Host: ID.CLASS.localhost, "
                                     "or Ctr-Instance: CLASS/ID on a loopback listener"));
  }
  if (header && name && Disagree(*header, *name)) {
    return BadRequest(absl::StrCat("the host \"", host,
                                   "\" and Ctr-Instance or Ctr-Class disagree; send one of them"));
  }
  Choice choice = header ? *header : *name;
  // Both may say only part: the name the class, the header the ID, or the other way round.
  if (name && choice.id.empty()) choice.id = name->id;
  return RouteByChoice(table, choice, target.ctr_port);
}

}  // namespace ctr
