#include "agent/network/rules.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"

namespace ctr {
namespace {

// What is no public IPv4 address, by IANA's registry of special-purpose addresses; the three
// networks for documentation are left out, which nobody has. IPv6 is told the other way round:
// 2000::/3 is all that is public, less what leads to IPv4 addresses (Teredo, 6to4).
constexpr char kNotPublic4[] =
    "0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 169.254.0.0/16, 172.16.0.0/12, "
    "192.0.0.0/24, 192.168.0.0/16, 198.18.0.0/15, 224.0.0.0/3";
constexpr char kNotPublic6[] = "::/3, 2001::/32, 2002::/16, 4000::/2, 8000::/1";

// Before connection tracking (-200), so that what is thrown away there costs nothing; and before
// other tables' chains at the same hook (0).
constexpr char kTable[] = R"(
table inet $TABLE {
  set allow4 { type ipv4_addr; flags interval; auto-merge; $ALLOW4}
  set allow6 { type ipv6_addr; flags interval; auto-merge; $ALLOW6}
  set names4 { type ipv4_addr; $NAMES4}
  set names6 { type ipv6_addr; $NAMES6}
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
  }
  chain output {
    type filter hook output priority -10; policy accept;
    oifname "$PREFIX*" jump answers
  }
  chain source {
    type nat hook postrouting priority 100; policy accept;
    ip saddr $SUBNET4 oifname != "$PREFIX*" masquerade
    ip6 saddr $SUBNET6 oifname != "$PREFIX*" masquerade
  }

  chain inwards {
    iifname "$PREFIX*" jump refuse comment "another instance"
    ct state { established, related } accept
    drop
  }
  chain outwards {
    ct state invalid drop
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
}
)";

std::string Elements(const std::vector<IpRange>& ranges, IpRange::Family family) {
  std::vector<std::string> texts;
  for (const IpRange& range : ranges) {
    if (range.family == family) texts.push_back(range.ToString());
  }
  return texts.empty() ? "" : absl::StrCat("elements = { ", absl::StrJoin(texts, ", "), " } ");
}

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

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
      {"$SUBNET4", input.subnets.ipv4.ToString()},
      {"$SUBNET6", input.subnets.ipv6.ToString()},
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

}  // namespace ctr
