#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "agent/base/ip_range.h"
#include "agent/network/subnet.h"

namespace ctr {

// "ctr-<agent id>", the one table of netfilter that is this agent's.
std::string RuleTable(std::string_view agent_id);

// What every interface of this agent on the host begins with; four digits follow (an interface's
// name has 15 characters at most).
std::string InterfacePrefix(std::string_view agent_id);

// What the rules are made from.
struct RuleInput {
  std::string agent_id;
  Subnets subnets;
  std::vector<IpRange> allow;        // may be reached although they are not public
  std::vector<IpRange> nameservers;  // may be reached at port 53
};

// The text for `nft -f -` that puts the agent's table in place, whole or not at all, whatever was
// there of it. What comes from an instance's interface is let through to public addresses alone;
// all else is refused: TCP by a reset, so that who tries need not wait.
std::string RuleText(const RuleInput& input);

// The text that removes it; also right where there is none.
std::string RuleRemovalText(std::string_view agent_id);

}  // namespace ctr
