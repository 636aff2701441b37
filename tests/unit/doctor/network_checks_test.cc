#include "agent/doctor/network_checks.h"

#include <doctest/doctest.h>

#include "agent/doctor/kernel_checks.h"

namespace ctr {
namespace {

using Outcome = Finding::Outcome;

std::string Chains(const std::string& chains) {
  return R"({"nftables":[{"metainfo":{"version":"1.0.6"}},)" + chains + "]}";
}

constexpr char kAgents[] =
    R"({"chain":{"family":"inet","table":"ctr-0123456789","name":"forward","hook":"forward","policy":"drop"}})";
constexpr char kGuard[] = R"({"chain":{"family":"inet","table":"ctr-0123456789","name":"others"}})";

}  // namespace

TEST_CASE("another firewall that closes the way of forwarded packets is found, ours is not") {
  const auto closed = ClosedForwardChains(Chains(std::string(kAgents) + R"(,
    {"chain":{"family":"ip","table":"filter","name":"FORWARD","hook":"forward","policy":"drop"}},
    {"chain":{"family":"ip","table":"filter","name":"INPUT","hook":"input","policy":"drop"}},
    {"chain":{"family":"inet","table":"fw","name":"fwd","hook":"forward","policy":"accept"}},
    {"chain":{"family":"ip","table":"filter","name":"DOCKER-USER"}})"));
  CHECK(closed == std::vector<ClosedChain>{{"ip", "filter", "FORWARD"}});
  CHECK(ClosedForwardChains("").empty());
  CHECK(ClosedForwardChains("{\"nftables\": [1, {\"chain\": 2}]}").empty());
}

TEST_CASE("firewalld is found, which accepts by policy and rejects by its last rule") {
  const auto closed = ClosedForwardChains(Chains(
      R"({"chain":{"family":"inet","table":"firewalld","name":"filter_FORWARD","hook":"forward","policy":"accept"}})"));
  REQUIRE(closed.size() == 1);
  CHECK(closed[0].ToString() == "inet firewalld filter_FORWARD");
}

TEST_CASE("what to do is said in the other firewall's own words") {
  CHECK(HowToLetThrough({"ip", "filter", "FORWARD"}, false) ==
        "iptables -I FORWARD -i ctr+ -j ACCEPT; iptables -I FORWARD -o ctr+ -m conntrack "
        "--ctstate ESTABLISHED,RELATED -j ACCEPT");
  CHECK(HowToLetThrough({"ip6", "filter", "FORWARD"}, false).starts_with("ip6tables -I FORWARD "));
  CHECK(HowToLetThrough({"ip", "filter", "FORWARD"}, true).starts_with("iptables -I DOCKER-USER "));
  CHECK(HowToLetThrough({"inet", "fw", "fwd"}, false)
            .starts_with("nft insert rule inet fw fwd iifname '\"ctr*\"' accept; "));
  CHECK(
      HowToLetThrough({"inet", "firewalld", "filter_FORWARD"}, true).starts_with("firewall-cmd "));
}

TEST_CASE("who has let instances through already is not told to") {
  constexpr char kSeenTo[] =
      R"({"rule":{"family":"ip","table":"filter","chain":"DOCKER-USER","expr":[
        {"match":{"op":"==","left":{"meta":{"key":"iifname"}},"right":"ctr*"}},{"accept":null}]}})";
  constexpr char kOther[] =
      R"({"rule":{"family":"ip","table":"filter","chain":"FORWARD","expr":[
        {"match":{"op":"==","left":{"meta":{"key":"iifname"}},"right":"docker0"}},
        {"match":{"op":"in","left":{"ct":{"key":"state"}},"right":["established","related"]}},
        {"accept":null}]}})";
  CHECK(HasRuleForInstances(Chains(kSeenTo)));
  CHECK_FALSE(HasRuleForInstances(Chains(kOther)));
  CHECK_FALSE(HasRuleForInstances(""));
}

TEST_CASE("forwarding that is off is a warning once an agent is there, which needs it") {
  CHECK(JudgeForwarding(false, Chains("1")).outcome == Outcome::kOk);
  CHECK(JudgeForwarding(true, Chains(kAgents)).detail == "net.ipv4.ip_forward = 1");
  const Finding off = JudgeForwarding(false, Chains(kAgents));
  CHECK(off.outcome == Outcome::kWarning);
  CHECK_FALSE(off.advice.empty());
}

TEST_CASE("forwarding that an agent turned on is said to be for instances alone") {
  const Finding finding = JudgeForwarding(true, Chains(std::string(kAgents) + "," + kGuard));
  CHECK(finding.outcome == Outcome::kOk);
  CHECK(finding.detail.find("neither from nor to an instance are dropped") != std::string::npos);
}

TEST_CASE("Docker that came after an agent turned forwarding on is told what to do") {
  constexpr char kDocker[] = R"({"chain":{"family":"ip","table":"filter","name":"DOCKER"}})";
  const std::string both = std::string(kAgents) + "," + kDocker;
  CHECK(JudgeForwarding(true, Chains(both)).outcome == Outcome::kOk);
  const Finding late = JudgeForwarding(true, Chains(both + "," + kGuard));
  CHECK(late.outcome == Outcome::kWarning);
  CHECK_FALSE(late.advice.empty());
}

TEST_CASE("a file system that the kernel does not know is told from one that it has") {
  CHECK(HasFileSystem("overlay"));
  CHECK(HasFileSystem("proc"));
  CHECK_FALSE(HasFileSystem("no-such-file-system"));
}

}  // namespace ctr
