#include "agent/network/subnet.h"

#include <set>

#include <doctest/doctest.h>

namespace ctr::subnet_test {
namespace {

IpRange Range(std::string_view text) { return ParseIpRange(text).value_or(IpRange()); }

}  // namespace

TEST_CASE("a network is chosen that overlaps nothing of the host's") {
  const auto first = ChooseSubnet("0123456789", 0, {});
  REQUIRE(first);
  CHECK(Range("10.192.0.0/10").Contains(first->ipv4));
  CHECK(first->ipv4.prefix == 16);
  CHECK(first->number == 0);

  const auto second =
      ChooseSubnet("0123456789", 0, {.claimed = {}, .used = {AddressIn(first->ipv4, 77)}});
  REQUIRE(second);
  CHECK_FALSE(second->ipv4.Overlaps(first->ipv4));
  CHECK(second->number == 1);
}

TEST_CASE("every candidate is tried once, and then there is none") {
  std::set<std::string> seen;
  for (int n = 0; auto candidate = CandidateSubnet("0123456789", n); ++n) {
    CHECK(seen.insert(candidate->ToString()).second);
  }
  CHECK(seen.size() == 48);
  const Obstacles all = {.claimed = {Range("10.0.0.0/8")}, .used = {}};
  CHECK_FALSE(ChooseSubnet("0123456789", 0, all));
  const Obstacles many = {.claimed = {Range("10.192.0.0/11"), Range("fd00::/8")}, .used = {}};
  CHECK(ChooseSubnet("0123456789", 0, many));
}

TEST_CASE("a VPN's routes, or one to all of 10.0.0.0/8, leave room for a network within them") {
  for (const char* wide : {"0.0.0.0/1", "10.0.0.0/8", "10.192.0.0/10"}) {
    CAPTURE(wide);
    const Obstacles obstacles = {.claimed = {}, .used = {Range(wide)}};
    CHECK(ChooseSubnet("0123456789", 0, obstacles));
    CHECK_FALSE(ObstacleTo(Range("10.200.0.0/16"), obstacles));
  }
}

TEST_CASE("a network apart from all routes comes before one within a wide route") {
  const Obstacles obstacles = {.claimed = {},
                               .used = {Range("10.192.0.0/11"), Range("10.224.0.0/13")}};
  const auto chosen = ChooseSubnet("0123456789", 0, obstacles);
  REQUIRE(chosen);
  CHECK(Range("10.232.0.0/13").Contains(chosen->ipv4));
  // Who lost that one to another agent goes on after it, and comes to those within in the end.
  int number = chosen->number;
  int rest = 0;
  while (const auto next = ChooseSubnet("0123456789", number + 1, obstacles)) {
    number = next->number;
    ++rest;
  }
  CHECK(rest == 7 + 48);
}

TEST_CASE("another's claim, and what is the same network or a part of it, are in the way") {
  const IpRange subnet = Range("10.200.0.0/16");
  const auto obstacle = [&](const char* claimed, const char* used) {
    const auto found = ObstacleTo(subnet, {.claimed = {Range(claimed)}, .used = {Range(used)}});
    return found ? found->ToString() : "";
  };
  CHECK(obstacle("10.0.0.0/8", "192.168.0.0/24") == "10.0.0.0/8");
  CHECK(obstacle("10.200.7.0/24", "192.168.0.0/24") == "10.200.7.0/24");
  CHECK(obstacle("10.201.0.0/16", "10.200.0.0/16") == "10.200.0.0/16");
  CHECK(obstacle("10.201.0.0/16", "10.200.0.53") == "10.200.0.53");
  CHECK(obstacle("10.201.0.0/16", "10.0.0.0/8") == "");
}

TEST_CASE("agents begin at different networks") {
  std::set<std::string> first;
  for (char c = 'a'; c <= 'p'; ++c) {
    first.insert(CandidateSubnet(std::string("012345678") + c, 0)->ToString());
  }
  CHECK(first.size() > 8);
}

TEST_CASE("an agent has an IPv6 network of its own, always the same") {
  const IpRange network = UniqueLocalSubnet("0123456789");
  CHECK(Range("fd00::/8").Contains(network));
  CHECK(network.prefix == 64);
  CHECK(network == UniqueLocalSubnet("0123456789"));
  CHECK_FALSE(network == UniqueLocalSubnet("0123456788"));
  CHECK(NumberOf("0123456789") != NumberOf("0123456788"));
}

TEST_CASE("what was chosen is kept as a line") {
  const Subnets subnets{Range("10.200.0.0/16"), Range("fd12:3456:789a::/64")};
  CHECK(FormatSubnets(subnets) == "10.200.0.0/16 fd12:3456:789a::/64");
  StatusOr<Subnets> read = ParseSubnets(FormatSubnets(subnets) + "\n");
  REQUIRE(read.ok());
  CHECK(*read == subnets);
  for (const char* bad :
       {"", "10.200.0.0/16", "fd00::/64 10.200.0.0/16", "10.200.0.0/16 x", "a b c"}) {
    CAPTURE(bad);
    CHECK_FALSE(ParseSubnets(bad).ok());
  }
}

}  // namespace ctr::subnet_test
