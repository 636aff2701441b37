
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

namespace ctr {
namespace {

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
  input.subnets = {ParseIpRange("10.192.0.0/16").value_or(IpRange()), UniqueLocalSubnet("doctor")};
  const Status taken = RunCommand({"nft", "--check", "-f", "-"}, RuleText(input)).status();
  if (taken.ok()) return {"packet filter", Outcome::kOk, "nft takes the rules of an agent", ""};
  return {
      "packet filter", Outcome::kWarning,
      absl::StrCat("classes with internet = true do not start: ", std::string(taken.message())),
      "run as root; install nftables; load what the kernel lacks: modprobe -a nf_tables nft_nat "
      "nft_masq nft_fib_inet nft_reject_inet nft_ct"};
}

Finding CheckForwarding() {
  if (ReadFirstLine("/proc/sys/net/ipv4/ip_forward") == "1") {
    return {"forwarding", Outcome::kOk, "net.ipv4.ip_forward = 1", ""};
  }
  return {"forwarding", Outcome::kOk,
          "net.ipv4.ip_forward = 0: the agent turns it on at its start, as Docker does", ""};
}

Finding CheckIpv6() {
  if (HasIpv6(HostAddresses())) {
    return {"IPv6", Outcome::kOk, "instances with internet = true get it, too", ""};
  }
  return {"IPv6", Outcome::kWarning, "this host has no IPv6 address: instances get IPv4 alone",
          "nothing, if it is not needed"};
}

Finding CheckOthersRules() {
  const StatusOr<std::string> chains = RunCommand({"nft", "-j", "list", "chains"});
  const std::vector<std::string> closed =
      chains.ok() ? ClosedForwardChains(*chains) : std::vector<std::string>();
  if (closed.empty()) {
    return {"other firewalls", Outcome::kOk, "none closes the way of forwarded packets", ""};
  }
  return {
      "other firewalls", Outcome::kWarning,
      absl::StrCat(absl::StrJoin(closed, ", "),
                   " drops forwarded packets that it does not know: instances may have no way "
                   "out"),
      "let theirs through, as in: iptables -I FORWARD -i ctr+ -j ACCEPT; iptables -I FORWARD -o "
      "ctr+ -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT (with Docker: -I DOCKER-USER)"};
}

}  // namespace

std::vector<std::string> ClosedForwardChains(const std::string& chains_json) {
  std::vector<std::string> closed;
  const nlohmann::json listed = nlohmann::json::parse(chains_json, nullptr, false);
  if (!listed.is_object() || !listed.contains("nftables")) return closed;
  const auto text = [](const nlohmann::json& chain, const char* key) {
    const auto found = chain.find(key);
    return found != chain.end() && found->is_string() ? found->get<std::string>() : std::string();
  };
  for (const nlohmann::json& entry : listed["nftables"]) {
    if (!entry.is_object() || !entry.contains("chain")) continue;
    const nlohmann::json& chain = entry["chain"];
    if (text(chain, "hook") != "forward" || text(chain, "policy") != "drop") continue;
    if (absl::StartsWith(text(chain, "table"), "ctr-")) continue;
    closed.push_back(
        absl::StrCat(text(chain, "family"), " ", text(chain, "table"), " ", text(chain, "name")));
  }
  return closed;
}

std::vector<Finding> CheckNetwork() {
  return {CheckInterfaces(), CheckRules(), CheckForwarding(), CheckIpv6(), CheckOthersRules()};
}

}  // namespace ctr
