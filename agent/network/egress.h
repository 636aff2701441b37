#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/error.h"
#include "agent/base/ip_range.h"
#include "agent/base/netns.h"
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
// All calls block, and are made on the work pool. Open and Refresh one at a time; Attach, Detach
// and Attached from any thread once Open was OK (the latter two before that, too).
class Egress {
 public:
  explicit Egress(EgressOptions options);

  // Decides on networks (and keeps them in DATA/network), puts the rules in place, turns forwarding
  // on and tries the rules. If anything of it fails, the interfaces that there are go: what can't
  // be held back gets no way out. Says what to do.
  Status Open();

  // Puts the rules back if somebody changed or removed them, and follows the host's nameservers.
  // Cheap if nothing has changed. As Open if it fails.
  Status Refresh();

  // Gives the container an address and a way out. Its namespace must have no `eth0` yet.
  Status Attach(const NetworkNamespace& netns, const std::string& container_id);
  // OK if it has none. (Its interface also goes with its namespace.)
  Status Detach(const std::string& container_id) const;
  // The containers that have one.
  StatusOr<std::vector<std::string>> Attached() const;

  // For /etc/resolv.conf of instances. There from Open on.
  std::string ResolvConfPath() const;

  // Removes all that is left of an agent's: interfaces, routes, rules, RUN/network. OK if it never
  // had any.
  Status Purge() const;

 private:
  Status DecideSubnets();
  Status ClaimFree(std::vector<HostRoute>& routes,
                   const std::function<std::vector<IpRange>()>& taken);
  Status Claim(const IpRange& subnet);
  Status Release(const IpRange& subnet) const;
  Status PutRules();
  Status PutResolvConf();
  Status TestAndForward();
  // `status`; if it is an error, without any interface left.
  Status OrCutOff(Status status);
  std::string SubnetPath() const { return options_.data_dir + "/network"; }

  const EgressOptions options_;
  const std::string prefix_;  // of our interfaces' names

  // Of Open and Refresh; constant in between.
  Subnets subnets_;
  bool has_ipv6_ = false;
  uint32_t mtu_ = 1500;
  ResolvConf resolv_conf_;
  std::string listed_rules_;  // as nft shows them
  uint32_t generation_ = 0;   // of netfilter, when they were looked at

  std::atomic<uint32_t> next_;  // the address to try next
};

}  // namespace ctr
