#include "agent/control/routes.h"

#include "spdlog/spdlog.h"

namespace ctr {
namespace {

std::vector<std::shared_ptr<Slot>> PoolOf(const ClassRoute& route) {
  std::vector<std::shared_ptr<Slot>> pool(static_cast<size_t>(route.route_instances));
  for (size_t i = 0; i < pool.size(); ++i) {
    auto slot = route.slots.find(RoutedId(static_cast<int>(i)));
    if (slot != route.slots.end()) pool[i] = slot->second;
  }
  // Of a million that may be there are only those that were.
  while (!pool.empty() && !pool.back()) pool.pop_back();
  return pool;
}

// Null: it has its class's ports.
std::shared_ptr<const ClassConfig> OlderConfig(const Instance& instance) {
  const std::shared_ptr<const ClassConfig>& started = instance.started_config();
  const ClassConfig& newest = *instance.class_state()->config;
  const bool is_same =
      started->ports == newest.ports && started->default_port == newest.default_port;
  return is_same ? nullptr : started;
}

}  // namespace

bool Routes::IsStale(const Instance& instance) const {
  const auto known = older_.find(instance.name());
  return published_ && OlderConfig(instance) != (known == older_.end() ? nullptr : known->second);
}

Status Routes::AddAddress(uint32_t address, const ClassConfig& config) {
  std::vector<Target> added;
  for (const PortConfig& port : config.ports) {
    Target target(address, port.port);
    if (steered_.contains(target)) continue;
    Status status = steer_.add(target.first, target.second);
    if (!status.ok()) {
      for (const Target& undo : added) {
        steer_.remove(undo.first, undo.second);
        steered_.erase(undo);
      }
      return status;
    }
    steered_.insert(target);
    added.push_back(target);
  }
  return absl::OkStatus();
}

void Routes::Publish(const std::map<std::string, std::shared_ptr<ClassState>>& classes,
                     const std::map<InstanceName, std::shared_ptr<Instance>>& instances) {
  auto table = std::make_shared<RouteTable>();
  table->domains = domains_;
  std::set<Target> wanted;
  std::map<std::string, std::shared_ptr<ClassRoute>> routes;
  published_ = true;
  older_.clear();
  for (const auto& [name, state] : classes) {
    const ClassConfig& config = *state->config;
    auto route = std::make_shared<ClassRoute>();
    route->name = name;
    route->default_port = config.default_port.value_or(0);
    route->ports = config.ports;
    route->create_by_request = config.create == CreateBy::kRequest;
    route->policy = config.route_policy;
    route->route_instances = config.route_instances;
    route->response_timeout = config.response_timeout;
    route->hold_timeout = config.start_timeout + config.stop_grace;
    route->address = state->record.address;
    route->traffic = state->traffic;
    table->classes[name] = route;
    table->classes_by_address[route->address] = route;
    for (const PortConfig& port : config.ports) wanted.emplace(route->address, port.port);
    routes[name] = std::move(route);
  }
  for (const auto& [name, instance] : instances) {
    const std::shared_ptr<ClassRoute>& route = routes.at(name.class_name);
    route->slots[name.id] = instance->slot();
    uint32_t address = instance->record().address;
    table->instances_by_address[address] = {route, instance->slot()};
    for (const PortConfig& port : route->ports) wanted.emplace(address, port.port);
    if (std::shared_ptr<const ClassConfig> older = OlderConfig(*instance)) {
      for (const PortConfig& port : older->ports) wanted.emplace(address, port.port);
      older_[name] = route->older[name.id] = std::move(older);
    }
  }
  for (const auto& [name, route] : routes) route->pool = PoolOf(*route);
  publisher_.Publish(std::move(table));

  for (auto it = steered_.begin(); it != steered_.end();) {
    if (wanted.contains(*it)) {
      ++it;
      continue;
    }
    steer_.remove(it->first, it->second);
    it = steered_.erase(it);
  }
  for (const Target& target : wanted) {
    if (steered_.contains(target)) continue;
    Status status = steer_.add(target.first, target.second);
    if (status.ok()) {
      steered_.insert(target);
    } else {
      spdlog::error("{}", std::string(status.message()));
    }
  }
}

}  // namespace ctr
