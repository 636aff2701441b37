#include "agent/doctor/network_checks.h"

#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "agent/base/read_file.h"
#include "agent/base/run_command.h"
#include "agent/doctor/host_checks.h"
#include "agent/network/host.h"
#include "agent/network/rules.h"
#include "agent/network/self_test.h"
#include "agent/network/subnet.h"

namespace ctr {
namespace {

using Json = nlohmann::json;
using Outcome = Finding::Outcome;

Finding CheckInterfaces() {
  const Status tried = TestLinks();
  if (tried.ok()) return {"interfaces", Outcome::kOk, "network namespaces and veth pairs", ""};
  return {"interfaces", Outcome::kWarning,
          absl::StrCat("classes with internet = true do not start: ", std::string(tried.message())),
          "run as root; load what the kernel lacks: modprobe veth"};
}

// A table like an agent's, checked by the kernel and not put in place.
Finding CheckRules() {
  RuleInput input;
  input.agent_id = "doctor0000";
  input.guards_ipv4 = true;
  const Status taken = RunCommand({"nft", "--check", "-f", "-"}, RuleText(input)).status();
  if (taken.ok()) return {"packet filter", Outcome::kOk, "nft takes the rules of an agent", ""};
  return {
      "packet filter", Outcome::kWarning,
      absl::StrCat("classes with internet = true do not start: ", std::string(taken.message())),
      "run as root; install nftables; load what the kernel lacks: modprobe -a nf_tables nft_nat "
      "nft_masq nft_fib_inet nft_reject_inet nft_ct nft_connlimit"};
}

Finding CheckIpv6() {
  const StatusOr<HostNetwork> host = LookAtHost();
  if (host.ok() && host->has_ipv6) {
    return {"IPv6", Outcome::kOk, "instances with internet = true get it, too", ""};
  }
  return {"IPv6", Outcome::kWarning,
          "this host has no IPv6 address or no default route for it: instances get IPv4 alone",
          "nothing, if it is not needed"};
}

// The objects of that name in what nft lists.
std::vector<Json> Listed(const std::string& json, const char* name) {
  std::vector<Json> found;
  const Json listed = Json::parse(json, nullptr, false);
  if (!listed.is_object() || !listed.contains("nftables")) return found;
  for (const Json& entry : listed["nftables"]) {
    if (entry.is_object() && entry.contains(name) && entry[name].is_object()) {
      found.push_back(entry[name]);
    }
  }
  return found;
}

std::string Text(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

bool IsAnAgents(const Json& chain) { return absl::StartsWith(Text(chain, "table"), "ctr-"); }

Finding CheckOthersRules(const std::string& chains_json) {
  constexpr char kUnseen[] = " (rules of iptables-legacy are not seen by this)";
  std::vector<std::string> names;
  std::vector<std::string> advice;
  for (const ClosedChain& chain : ClosedForwardChains(chains_json)) {
    const StatusOr<std::string> table =
        RunCommand({"nft", "-j", "list", "table", chain.family, chain.table});
    if (table.ok() && HasRuleForInstances(*table)) continue;
    names.push_back(chain.ToString());
    advice.push_back(HowToLetThrough(chain, absl::StrContains(chains_json, "\"DOCKER-USER\"")));
  }
  if (names.empty()) {
    return {"other firewalls", Outcome::kOk,
            absl::StrCat("none closes the way of instances' packets", kUnseen), ""};
  }
  return {"other firewalls", Outcome::kWarning,
          absl::StrCat(absl::StrJoin(names, ", "),
                       " drops forwarded packets that it does not know: instances may have no way "
                       "out",
                       kUnseen),
          "let theirs through: " + absl::StrJoin(advice, "; ")};
}

}  // namespace

std::string ClosedChain::ToString() const { return absl::StrCat(family, " ", table, " ", name); }

std::vector<ClosedChain> ClosedForwardChains(const std::string& chains_json) {
  std::vector<ClosedChain> closed;
  for (const Json& chain : Listed(chains_json, "chain")) {
    if (Text(chain, "hook") != "forward" || IsAnAgents(chain)) continue;
    if (Text(chain, "policy") != "drop" && Text(chain, "name") != "filter_FORWARD") continue;
    closed.push_back({Text(chain, "family"), Text(chain, "table"), Text(chain, "name")});
  }
  return closed;
}

bool HasRuleForInstances(const std::string& table_json) {
  for (const Json& rule : Listed(table_json, "rule")) {
    if (!rule.contains("expr") || !rule["expr"].is_array()) continue;
    for (const Json& expression : rule["expr"]) {
      if (!expression.is_object() || !expression.contains("match")) continue;
      if (absl::StartsWith(Text(expression["match"], "right"), "ctr")) return true;
    }
  }
  return false;
}

std::string HowToLetThrough(const ClosedChain& chain, bool has_docker) {
  if (chain.table == "firewalld") {
    return "firewall-cmd --permanent --zone=trusted --add-interface=ctr+ && firewall-cmd --reload";
  }
  constexpr char kAnswers[] = "ESTABLISHED,RELATED";
  if (chain.table == "filter" && chain.name == "FORWARD") {
    const std::string insert = absl::StrCat(chain.family == "ip6" ? "ip6tables" : "iptables",
                                            " -I ", has_docker ? "DOCKER-USER" : "FORWARD");
    return absl::StrCat(insert, " -i ctr+ -j ACCEPT; ", insert, " -o ctr+ -m conntrack --ctstate ",
                        kAnswers, " -j ACCEPT");
  }
  const std::string insert = "nft insert rule " + chain.ToString();
  return absl::StrCat(insert, " iifname '\"ctr*\"' accept; ", insert,
                      " oifname '\"ctr*\"' ct state established,related accept");
}

Finding JudgeForwarding(bool is_on, const std::string& chains_json) {
  bool has_agent = false;
  bool is_guarded = false;
  for (const Json& chain : Listed(chains_json, "chain")) {
    if (!IsAnAgents(chain)) continue;
    has_agent = true;
    is_guarded = is_guarded || Text(chain, "name") == kGuardChain;
  }
  if (is_guarded && absl::StrContains(chains_json, "\"DOCKER\"")) {
    return {
        "forwarding", Outcome::kWarning,
        "an agent turned it on, for instances alone, and Docker came later: packets of Docker's "
        "containers are dropped",
        "net.ipv4.ip_forward = 1 in /etc/sysctl.d; then rm /run/ctr/network/settings (below the "
        "agent's run_dir), and start the agent again"};
  }
  if (is_on) {
    return {"forwarding", Outcome::kOk,
            is_guarded ? "net.ipv4.ip_forward = 1, by an agent: packets that are neither from nor "
                         "to an instance are dropped (README, Isolation)"
                       : "net.ipv4.ip_forward = 1",
            ""};
  }
  if (!has_agent) {
    return {"forwarding", Outcome::kOk,
            "net.ipv4.ip_forward = 0: an agent turns it on, for instances alone", ""};
  }
  return {"forwarding", Outcome::kWarning,
          "net.ipv4.ip_forward = 0, although an agent's rules are in place: instances have no way "
          "out",
          "an agent that runs turns it on within a second, or says in its log why it can't"};
}

std::vector<Finding> CheckNetwork() {
  const std::string chains = RunCommand({"nft", "-j", "list", "chains"}).value_or("");
  return {CheckInterfaces(), CheckRules(),
          JudgeForwarding(ReadFirstLine("/proc/sys/net/ipv4/ip_forward") == "1", chains),
          CheckIpv6(), CheckOthersRules(chains)};
}

}  // namespace ctr
