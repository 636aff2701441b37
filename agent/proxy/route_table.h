#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

#include "agent/base/error.h"
#include "agent/model/class_config.h"
#include "agent/proxy/slot.h"
#include "agent/proxy/traffic.h"

namespace ctr {

// What the data loops know of a class.
struct ClassRoute {
  std::string name;
  uint16_t default_port = 0;  // 0: a job, nothing to reach
  std::vector<PortConfig> ports;
  // Those who run and were started with other ports, by ID.
  std::map<std::string, std::shared_ptr<const ClassConfig>, std::less<>> older;
  bool create_by_request = false;
  RoutePolicy policy = RoutePolicy::kRandom;
  int route_instances = 3;
  Duration hold_timeout;  // start_timeout + stop_grace: how long a request may wait for a wake
  std::optional<Duration> response_timeout;  // how long an instance may take until it answers
  uint32_t address = 0;                      // host byte order
  std::shared_ptr<Traffic> traffic = std::make_shared<Traffic>();   // the class's, over all tables
  std::map<std::string, std::shared_ptr<Slot>, std::less<>> slots;  // by ID
  // Those of instance-0 … instance-N-1, whom routing owns; null: there is none yet.
  std::vector<std::shared_ptr<Slot>> pool;
};

struct InstanceAddress {
  std::shared_ptr<const ClassRoute> class_route;
  std::shared_ptr<Slot> slot;
};

// An immutable snapshot: who is behind an address or a name. Control publishes a new one on create,
// destroy and apply; the data loops read the newest.
struct RouteTable {
  std::map<std::string, std::shared_ptr<const ClassRoute>, std::less<>> classes;
  std::unordered_map<uint32_t, InstanceAddress> instances_by_address;  // host byte order
  std::unordered_map<uint32_t, std::shared_ptr<const ClassRoute>> classes_by_address;
  std::vector<std::string> domains = {"localhost"};  // lower case
};

// The newest snapshot. Any thread.
class RoutePublisher {
 public:
  RoutePublisher() : table_(std::make_shared<const RouteTable>()) {}
  std::shared_ptr<const RouteTable> Get() const { return table_.load(std::memory_order_acquire); }
  void Publish(std::shared_ptr<const RouteTable> table) {
    table_.store(std::move(table), std::memory_order_release);
    version_.fetch_add(1, std::memory_order_release);
  }
  // Grows with every Publish.
  uint64_t version() const { return version_.load(std::memory_order_acquire); }

 private:
  std::atomic<std::shared_ptr<const RouteTable>> table_;
  std::atomic<uint64_t> version_{0};
};

// One data loop's view of the newest snapshot: a plain load a request, where Get would share a
// reference count among the loops. Home: its data loop.
class RouteReader {
 public:
  explicit RouteReader(const RoutePublisher& publisher)
      : publisher_(publisher), version_(publisher.version()), table_(publisher.Get()) {}

  // Valid until the next call.
  const RouteTable& Newest() {
    if (uint64_t version = publisher_.version(); version != version_) {
      version_ = version;
      table_ = publisher_.Get();
    }
    return *table_;
  }

 private:
  const RoutePublisher& publisher_;
  uint64_t version_;
  std::shared_ptr<const RouteTable> table_;
};

// What a request says about where it wants to go.
struct RequestTarget {
  uint32_t local_address = 0;  // that it was accepted on, host byte order
  uint16_t local_port = 0;
  bool by_address = false;        // accepted by steering: only the address can choose
  bool connection = false;        // no request, but a connection, which any port takes
  std::string_view host;          // the Host field, may have a port
  std::string_view ctr_instance;  // Ctr-Instance, Ctr-Class, Ctr-Port; "" if absent or not trusted
  std::string_view ctr_class;
  std::string_view ctr_port;
};

// Where it goes: a class, a port, and either one ID or (`id` empty) whichever the class's policy
// picks.
struct Route {
  std::shared_ptr<const ClassRoute> class_route;
  std::string id;
  std::shared_ptr<Slot> slot;  // null: the ID is not known yet, or the policy picks
  uint16_t port = 0;
  Protocol protocol = Protocol::kHttp;  // that the port is declared to speak
};

// Resolves by the address that was connected to, else by the Ctr- fields, else by name
// (`<id>.<class>.<domain>`,
// `<class>.<domain>`). Errors carry the ingress's codes: unknown_class, unknown_instance (an ID
// that is not known of a class that `ctr get` creates), bad_request (names that disagree, an
// undeclared port). Of an instance that runs, the ports that it was started with are declared as
// well.
StatusOr<Route> ResolveRoute(const RouteTable& table, const RequestTarget& target);

// Which port it is of the instance `id` that was let in, as it was started: since the route was
// found it may have been started anew, or the policy has picked an older one. The class's default
// port is each one's own. BAD_REQUEST if it has no such port, also by what `newest` says.
StatusOr<uint16_t> PortOn(const Route& route, const std::string& id, const ClassConfig& started,
                          const RouteTable& newest);

// The class whose instance a ResolveRoute that failed did not know; "" if it failed otherwise.
std::string ClassOf(const Status& error);

}  // namespace ctr
