#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/fd_store.h"
#include "agent/proxy/listener.h"
#include "agent/proxy/sk_lookup.h"

namespace ctr {

enum class SteeringMode {
  kAuto,      // sk_lookup, or bind where the kernel refuses it
  kSkLookup,  // or fail
  kBind,      // a listener for each address and port
};

// Leads connections to the addresses of instances and classes to the agent's listeners. Holds the
// ranges' locks. Home: the control loop.
class Steering {
 public:
  using OnListener = std::function<void(std::shared_ptr<Listener>)>;

  // Claims `ranges`, which lie in 127.0.0.0/8. IN_USE if another agent has one of them. Goes on
  // with what `store`, which outlives it, has of an earlier process, and keeps its own there.
  static StatusOr<std::unique_ptr<Steering>> Create(std::vector<Ipv4Range> ranges,
                                                    SteeringMode mode, FdStore& store);

  // From now on connections to `address` (host byte order) and `port` arrive. When binding, IN_USE
  // if a server of the host is in the way, by a message that names it. Adding twice is once.
  Status Add(uint32_t address, uint16_t port);
  // From now on they are refused.
  void Remove(uint32_t address, uint16_t port);

  // "sk_lookup", or "bind: " and why.
  const std::string& Describe() const { return description_; }

  // Hands over every listener to accept on: those there are, and each that Add opens later. What an
  // earlier process steered and nobody has added by now is refused from here on.
  void Serve(OnListener on_listener);
  // An agent that was taking over has given up: what it may have changed is as it was.
  void TakeBack();
  // Adds nothing more. Connections are refused from now on, or wait if the store keeps listeners.
  void Close();
  // Those that are accepted on.
  std::vector<std::shared_ptr<Listener>> listeners() const;

 private:
  using Target = std::pair<uint32_t, uint16_t>;

  Steering(std::vector<UniqueFd> locks, FdStore& store) : locks_(std::move(locks)), store_(store) {}
  Status UseSkLookup(const std::vector<Ipv4Range>& ranges);
  Status ResumeSkLookup(const std::vector<Ipv4Range>& ranges);
  StatusOr<std::shared_ptr<Listener>> OpenBound(uint32_t address, uint16_t port);
  Status Bind(uint32_t address, uint16_t port);

  const std::vector<UniqueFd> locks_;
  FdStore& store_;
  std::string description_;
  std::optional<SkLookup> sk_lookup_;
  std::shared_ptr<Listener> shared_;                   // sk_lookup leads all to it
  std::map<Target, std::shared_ptr<Listener>> bound_;  // or there is one for each
  std::set<Target> stale_;  // steered by an earlier process, and not added since
  OnListener on_listener_;
  bool closed_ = false;
};

}  // namespace ctr
