#include "agent/network/subnet.h"

#include <set>

#include <doctest/doctest.h>

namespace ctr {
namespace {

IpRange Range(std::string_view text) { return ParseIpRange(text).value_or(IpRange()); }

}  // namespace

TEST_CASE("a network is chosen that overlaps nothing of the host's") {
  const auto first = ChooseSubnet("0123456789", 0, {});
  REQUIRE(first);
  CHECK(Range("10.192.0.0/10").Contains(first->ipv4));
  CHECK(first->ipv4.prefix == 16);
  CHECK(first->candidate == 0);

  const auto second = ChooseSubnet("0123456789", 0, {AddressIn(first->ipv4, 77)});
  REQUIRE(second);
  CHECK_FALSE(second->ipv4.Overlaps(first->ipv4));
  CHECK(second->candidate == 1);
}

TEST_CASE("every candidate is tried once, and then there is none") {
  std::set<std::string> seen;
  for (int n = 0; auto candidate = CandidateSubnet("0123456789", n); ++n) {
    CHECK(seen.insert(candidate->ToString()).second);
  }
  CHECK(seen.size() == 48);
  CHECK_FALSE(ChooseSubnet("0123456789", 0, {Range("10.0.0.0/8")}));
  CHECK(ChooseSubnet("0123456789", 0, {Range("10.192.0.0/11"), Range("fd00::/8")}));
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

}  // namespace ctr
