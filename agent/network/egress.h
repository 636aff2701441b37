#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/error.h"
#include "agent/base/ip_range.h"
#include "agent/base/netns.h"
#include "agent/network/host.h"
#include "agent/network/link.h"
#include "agent/network/resolv_conf.h"
#include "agent/network/subnet.h"

namespace ctr {

struct EgressOptions {
  std::string agent_id;
  std::string data_dir;           // absolute
  std::string run_dir;            // absolute
  std::optional<IpRange> subnet;  // of IPv4; none: chosen at the first start
  std::vector<IpRange> allow;     // not public, and may be reached all the same
};

// The way out of instances: an interface for each beside `lo`, and this agent's table of netfilter
// rules. Which addresses are in use is known by the interfaces that there are, and by nothing else.
// All calls block, and are made on the work pool. Open, Refresh and CutOff one at a time; Attach
// from any thread once Open was OK, also beside those; Detach and Attached from any thread.
class Egress {
 public:
  explicit Egress(EgressOptions options);

  // Puts the rules in place, turns forwarding on, decides on networks (and keeps them in
  // DATA/network) and tries the rules. An error says what is in the way of further instances; those
  // that have a way out keep it, unless `rules_lost`.
  Status Open();

  // Puts the rules and forwarding back if somebody changed them, follows the host's nameservers,
  // and opens anew where the host's own network has become another. Cheap if nothing has changed.
  Status Refresh();

  // Whether the last Open or Refresh found the rules missing or changed, and could not put them
  // back: nothing holds back then what has a way out.
  bool rules_lost() const { return rules_lost_; }

  // Takes the interfaces away that there are, also those in the making. Gives the containers that
  // had them.
  std::vector<std::string> CutOff() const;

  // Gives the container an address and a way out. Its namespace must have no `eth0` yet.
  Status Attach(const NetworkNamespace& netns, const std::string& container_id);
  // OK if it has none. (Its interface also goes with its namespace.)
  Status Detach(const std::string& container_id) const;
  // The containers that have one.
  StatusOr<std::vector<std::string>> Attached() const;

  // For /etc/resolv.conf of instances. There from Open on, and always the same file.
  std::string ResolvConfPath() const;

  // Removes all that is left of an agent's: interfaces, routes, rules, RUN/network, and gives the
  // kernel's settings back. OK if it never had any.
  Status Purge() const;

 private:
  // What an interface is made by. Immutable.
  struct Plan {
    Subnets subnets;
    bool has_ipv6 = false;
    uint32_t mtu = 1500;
  };

  Status PutRulesAndForward();
  Status PutRules();
  bool RulesHold();
  std::optional<bool> TableIsAsPut() const;
  Status DecidePlan();
  StatusOr<IpRange> DecideSubnet(const IpRange& ipv6) const;
  StatusOr<IpRange> ClaimFree(const std::vector<IpRange>& ours, const IpRange& ipv6) const;
  StatusOr<Obstacles> FindObstacles(const std::vector<IpRange>& ours) const;
  Status Claim(const Subnets& subnets) const;
  Status ReleaseClaims(const std::vector<IpRange>& kept) const;
  Status PutResolvConf() const;
  Status Test();
  Status RemoveRules() const;
  std::vector<KernelSetting> RememberedSettings() const;

  uint32_t number() const { return NumberOf(options_.agent_id); }
  std::string SubnetPath() const { return options_.data_dir + "/network"; }
  std::string SettingsPath() const { return options_.run_dir + "/network/settings"; }

  const EgressOptions options_;
  const std::string prefix_;  // of our interfaces' names

  // Of Open and Refresh.
  HostNetwork host_;  // as the way out was opened for; without any address before
  FollowedResolvConf resolv_conf_;
  std::vector<KernelSetting> changed_settings_;  // that this agent, or one before it, changed
  std::string listed_rules_;                     // as nft shows them; "": that can't be told
  uint32_t generation_ = 0;                      // of netfilter, when they were looked at
  bool rules_lost_ = false;

  std::atomic<std::shared_ptr<const Plan>> plan_;  // null before it was decided on
  std::atomic<uint32_t> next_;                     // the address to try next
};

}  // namespace ctr
