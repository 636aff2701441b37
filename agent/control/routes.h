#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "agent/control/instance.h"
#include "agent/proxy/route_table.h"

namespace ctr {

// Makes connections to an instance's or a class's own address reach the data loops (sk_lookup, or a
// listener each).
struct Steer {
  std::function<Status(uint32_t address, uint16_t port)> add;
  std::function<void(uint32_t address, uint16_t port)> remove;
};

// Publishes what the data loops route by, and keeps the steered addresses equal to it. On the
// control loop.
class Routes {
 public:
  Routes(RoutePublisher& publisher, Steer steer, std::vector<std::string> domains)
      : publisher_(publisher), steer_(std::move(steer)), domains_(std::move(domains)) {}

  // Steers every declared port of `address`; undoes all if one is refused.
  Status AddAddress(uint32_t address, const ClassConfig& config);

  // Publishes a new snapshot of all classes and instances, and steers exactly what it names, also
  // the ports that an instance runs with and its class has no more. An address that can't be
  // steered is logged; names still reach it.
  void Publish(const std::map<std::string, std::shared_ptr<ClassState>>& classes,
               const std::map<InstanceName, std::shared_ptr<Instance>>& instances);

  // Whether that has become wrong by what one instance runs with, or runs no more.
  bool IsStale(const Instance& instance) const;

 private:
  using Target = std::pair<uint32_t, uint16_t>;

  RoutePublisher& publisher_;
  const Steer steer_;
  const std::vector<std::string> domains_;
  std::set<Target> steered_;
  bool published_ = false;
  std::map<InstanceName, std::shared_ptr<const ClassConfig>> older_;  // as published
};

}  // namespace ctr
