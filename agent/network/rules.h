#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "agent/base/ip_range.h"

namespace ctr {

// "ctr-<agent id>", the one table of netfilter that is this agent's.
std::string RuleTable(std::string_view agent_id);

// What every interface of this agent on the host begins with; four digits follow (an interface's
// name has 15 characters at most).
std::string InterfacePrefix(std::string_view agent_id);

// What the rules are made from.
struct RuleInput {
  std::string agent_id;
  std::vector<IpRange> allow;        // may be reached although they are not public
  std::vector<IpRange> nameservers;  // may be reached at port 53
  // Whether the kernel passes on packets of the family for the sake of instances alone: nobody
  // else's then.
  bool guards_ipv4 = false;
  bool guards_ipv6 = false;
};

// The text for `nft -f -` that puts the agent's table in place, whole or not at all, whatever was
// there of it. What comes from an instance's interface is let through to public addresses alone;
// all else is refused: TCP by a reset, so that who tries need not wait.
std::string RuleText(const RuleInput& input);

// The text that removes it; also right where there is none.
std::string RuleRemovalText(std::string_view agent_id);

// What nft lists of the table, without what the kernel itself writes into it: whose flows it
// counts.
std::string WithoutFlows(std::string listed);

// The chain in a table that is there while forwarded packets of others are dropped.
inline constexpr char kGuardChain[] = "others";

}  // namespace ctr
