#include "agent/network/rules.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "agent/base/view.h"

namespace ctr {
namespace {

// What is no public IPv4 address, by IANA's registry of special-purpose addresses; the three
// networks for documentation are left out, which nobody has; and what Azure's machines ask for
// their credentials (WireServer), although that address looks like a public one. IPv6 is told the
// other way round: 2000::/3 is all that is public, less what leads to IPv4 addresses (Teredo,
// 6to4).
constexpr char kNotPublic4[] =
    "0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 168.63.129.16, 169.254.0.0/16, "
    "172.16.0.0/12, 192.0.0.0/24, 192.168.0.0/16, 198.18.0.0/15, 224.0.0.0/3";
constexpr char kNotPublic6[] = "::/3, 2001::/32, 2002::/16, 4000::/2, 8000::/1";

// Before connection tracking (-200), so that what is thrown away there costs nothing; and before
// other tables' chains at the same hook (0).
constexpr char kTable[] = R"(
table inet $TABLE {
  set allow4 { type ipv4_addr; flags interval; auto-merge; $ALLOW4}
  set allow6 { type ipv6_addr; flags interval; auto-merge; $ALLOW6}
  set names4 { type ipv4_addr; $NAMES4}
  set names6 { type ipv6_addr; $NAMES6}
  set flows4 { type ipv4_addr; size 65536; flags dynamic; }
  set flows6 { type ipv6_addr; size 65536; flags dynamic; }
  set notpublic4 { type ipv4_addr; flags interval; elements = { $NOTPUBLIC4 } }
  set notpublic6 { type ipv6_addr; flags interval; elements = { $NOTPUBLIC6 } }

  chain early {
    type filter hook prerouting priority -300; policy accept;
    iifname "$PREFIX*" fib saddr . iif oif missing drop comment "an address that is not its own"
  }
  chain input {
    type filter hook input priority -10; policy accept;
    iifname "$PREFIX*" jump refuse comment "the host itself"
  }
  chain forward {
    type filter hook forward priority -10; policy accept;
    oifname "$PREFIX*" jump inwards
    iifname "$PREFIX*" jump outwards
$GUARD  }
  chain output {
    type filter hook output priority -10; policy accept;
    oifname "$PREFIX*" jump answers
  }
  chain source {
    type nat hook postrouting priority 100; policy accept;
    iifname "$PREFIX*" oifname != "$PREFIX*" masquerade
  }

  chain inwards {
    iifname "$PREFIX*" jump refuse comment "another instance"
    ct state { established, related } accept
    drop
  }
  chain outwards {
    ct state invalid drop
    ct state new add @flows4 { ip saddr ct count over 8192 } jump refuse comment "too many flows at once"
    ct state new add @flows6 { ip6 saddr ct count over 8192 } jump refuse comment "too many flows at once"
    ip daddr @allow4 accept
    ip6 daddr @allow6 accept
    ip daddr @names4 meta l4proto { tcp, udp } th dport 53 accept
    ip6 daddr @names6 meta l4proto { tcp, udp } th dport 53 accept
    ip daddr @notpublic4 jump refuse
    ip6 daddr @notpublic6 jump refuse
  }
  chain answers {
    icmp type { destination-unreachable, time-exceeded, parameter-problem } accept
    icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem } accept
    tcp flags & rst == rst accept
    drop
  }
  chain refuse {
    meta l4proto tcp reject with tcp reset
    meta l4proto udp reject with icmpx admin-prohibited
    drop
  }
$OTHERS}
)";

// Of all agents of this machine: one of them has turned forwarding on for all.
constexpr char kOthers[] = R"(  chain others {
    iifname "ctr*" return
    oifname "ctr*" return
    drop comment "neither from nor to an instance"
  }
)";

// What of the forwarded packets goes through the chain above.
std::string Guard(const RuleInput& input) {
  std::string text;
  if (input.guards_ipv4) absl::StrAppend(&text, "    meta nfproto ipv4 jump others\n");
  if (input.guards_ipv6) absl::StrAppend(&text, "    meta nfproto ipv6 jump others\n");
  return text;
}

std::string Elements(const std::vector<IpRange>& ranges, IpRange::Family family) {
  std::vector<std::string> texts;
  for (const IpRange& range : ranges) {
    if (range.family == family) texts.push_back(range.ToString());
  }
  return texts.empty() ? "" : absl::StrCat("elements = { ", absl::StrJoin(texts, ", "), " } ");
}

}  // namespace

std::string RuleTable(std::string_view agent_id) { return absl::StrCat("ctr-", View(agent_id)); }

std::string InterfacePrefix(std::string_view agent_id) {
  return absl::StrCat("ctr", View(agent_id.substr(0, 7)), "-");
}

std::string RuleText(const RuleInput& input) {
  const std::string prefix = InterfacePrefix(input.agent_id);
  const std::vector<std::pair<absl::string_view, std::string>> values = {
      {"$TABLE", RuleTable(input.agent_id)},
      {"$PREFIX", prefix},
      {"$GUARD", Guard(input)},
      {"$OTHERS", input.guards_ipv4 || input.guards_ipv6 ? kOthers : ""},
      {"$ALLOW4", Elements(input.allow, IpRange::Family::kIpv4)},
      {"$ALLOW6", Elements(input.allow, IpRange::Family::kIpv6)},
      {"$NAMES4", Elements(input.nameservers, IpRange::Family::kIpv4)},
      {"$NAMES6", Elements(input.nameservers, IpRange::Family::kIpv6)},
      {"$NOTPUBLIC4", kNotPublic4},
      {"$NOTPUBLIC6", kNotPublic6},
  };
  return absl::StrCat(RuleRemovalText(input.agent_id), absl::StrReplaceAll(kTable, values));
}

std::string RuleRemovalText(std::string_view agent_id) {
  const std::string table = RuleTable(agent_id);
  return absl::StrCat("table inet ", table, " {}\ndelete table inet ", table, "\n");
}

std::string WithoutFlows(std::string listed) {
  for (size_t at = 0; (at = listed.find("\tset flows", at)) != std::string::npos; ++at) {
    const size_t begin = listed.find("\t\telements = {", at);
    const size_t end = listed.find("\n\t}", at);  // of the set
    if (begin < end && end != std::string::npos) listed.erase(begin, end + 1 - begin);
  }
  return listed;
}

}  // namespace ctr
