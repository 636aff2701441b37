// What CheckNetwork judges by. All pure.
#pragma once

#include <string>
#include <vector>

#include "agent/doctor/finding.h"

namespace ctr {

// A chain of another firewall that lets nothing through what it does not know.
struct ClosedChain {
  std::string family;  // "ip", "ip6", "inet"
  std::string table;
  std::string name;

  std::string ToString() const;
  bool operator==(const ClosedChain&) const = default;
};

// Those out of `nft -j list chains`, firewalld's too, which does so by its last rule. Our own
// tables are passed over.
std::vector<ClosedChain> ClosedForwardChains(const std::string& chains_json);

// Whether a rule of the table, out of `nft -j list table`, is about instances' interfaces: somebody
// has seen to it.
bool HasRuleForInstances(const std::string& table_json);

// How packets of instances are let through there.
std::string HowToLetThrough(const ClosedChain& chain, bool has_docker);

// About net.ipv4.ip_forward, beside the agents' own rules out of `nft -j list chains`.
Finding JudgeForwarding(bool is_on, const std::string& chains_json);

}  // namespace ctr
