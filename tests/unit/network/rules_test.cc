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
          .subnets = {Range("10.200.0.0/16"), Range("fd12:3456:789a::/64")},
          .allow = {Range("10.1.0.0/16"), Range("192.168.7.7"), Range("fd00:1::/64")},
          .nameservers = {Range("10.0.0.53"), Range("2001:db8::53")}};
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
