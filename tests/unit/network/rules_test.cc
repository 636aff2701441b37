#include "agent/network/rules.h"

#include <fstream>
#include <sstream>

#include <doctest/doctest.h>

#include "agent/base/run_command.h"

namespace ctr {
namespace {

IpRange Range(std::string_view text) { return ParseIpRange(text).value_or(IpRange()); }

RuleInput TestInput() {
  return {.agent_id = "0123456789",
          .allow = {Range("10.1.0.0/16"), Range("192.168.7.7"), Range("fd00:1::/64")},
          .nameservers = {Range("10.0.0.53"), Range("2001:db8::53")},
          .guards_ipv4 = true,
          .guards_ipv6 = true};
}

std::string ReadGolden() {
  std::ifstream file(std::string(CTR_SOURCE_DIR) + "/tests/unit/network/rules.golden.nft");
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

bool Has(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("an agent's whole table is what rules.golden.nft says") {
  CHECK(RuleText(TestInput()) == ReadGolden());
}

TEST_CASE("nothing of a placeholder is left, also where lists are empty") {
  RuleInput input = TestInput();
  input.allow.clear();
  input.nameservers.clear();
  const std::string text = RuleText(input);
  CHECK_FALSE(Has(text, "$"));
  CHECK_FALSE(Has(text, "elements = { }"));
}

TEST_CASE("a host that passes packets on for others, too, goes on doing so") {
  RuleInput input = TestInput();
  input.guards_ipv4 = false;
  const std::string ipv6_alone = RuleText(input);
  CHECK_FALSE(Has(ipv6_alone, "nfproto ipv4 jump others"));
  CHECK(Has(ipv6_alone, "nfproto ipv6 jump others"));
  input.guards_ipv6 = false;
  CHECK_FALSE(Has(RuleText(input), "others"));
}

TEST_CASE("whose flows the kernel counts is no change of the rules") {
  constexpr char kBefore[] =
      "table inet ctr-0123456789 {\n\tset allow4 {\n\t\telements = { 10.1.0.0/16 }\n\t}\n\n"
      "\tset flows4 {\n\t\ttype ipv4_addr\n\t\tflags dynamic\n\t}\n\n"
      "\tset flows6 {\n\t\ttype ipv6_addr\n\t}\n\n"
      "\tset notpublic4 {\n\t\telements = { 0.0.0.0/8 }\n\t}\n}\n";
  constexpr char kLater[] =
      "table inet ctr-0123456789 {\n\tset allow4 {\n\t\telements = { 10.1.0.0/16 }\n\t}\n\n"
      "\tset flows4 {\n\t\ttype ipv4_addr\n\t\tflags dynamic\n"
      "\t\telements = { 10.0.0.1 ct count over 8192, 10.0.0.2 ct count over 8192,\n"
      "\t\t\t     10.0.0.3 ct count over 8192 }\n\t}\n\n"
      "\tset flows6 {\n\t\ttype ipv6_addr\n\t\telements = { fd00::1 ct count over 8192 }\n\t}\n\n"
      "\tset notpublic4 {\n\t\telements = { 0.0.0.0/8 }\n\t}\n}\n";
  CHECK(WithoutFlows(kLater) == kBefore);
  CHECK(WithoutFlows(kBefore) == kBefore);
}

TEST_CASE("an interface's name fits, with its number") {
  CHECK(InterfacePrefix("0123456789") == "ctr0123456-");
  CHECK(InterfacePrefix("0123456789").size() + 4 == 15);
  CHECK(RuleTable("0123456789") == "ctr-0123456789");
}

TEST_CASE("nft takes the rules") {
  // Checks, and changes nothing.
  Status taken = RunCommand({"nft", "--check", "-f", "-"}, RuleText(TestInput())).status();
  CHECK_MESSAGE(taken.ok(), taken.ToString());
}

}  // namespace ctr
