#include "agent/base/ip_range.h"

#include <doctest/doctest.h>

namespace ctr {
namespace {

IpRange Range(std::string_view text) {
  StatusOr<IpRange> range = ParseIpRange(text);
  INFO(range.status().ToString());
  REQUIRE(range.ok());
  return *range;
}

TEST_CASE("networks and addresses of both families are read and written") {
  for (const char* text : {"10.1.0.0/16", "10.1.2.3", "0.0.0.0/0", "fd00:1::/64", "::/0",
                           "2001:db8::7", "128.0.0.0/1"}) {
    CAPTURE(text);
    CHECK(Range(text).ToString() == text);
  }
  CHECK(Range("10.1.2.3/32").ToString() == "10.1.2.3");
  CHECK(Range("FD00:0:0::1").ToString() == "fd00::1");
}

TEST_CASE("what is no network is refused") {
  for (const char* bad : {"", "10.1.0.1/16", "10.1.0.0/33", "10.1.0.0/", "10.1.0.0/+8", "10.1/16",
                          "fd00::1/64", "fd00::/129", "fe80::1%eth0", "all", "/8"}) {
    CAPTURE(bad);
    CHECK_FALSE(ParseIpRange(bad).ok());
  }
  CHECK_FALSE(ParseIpRange(std::string_view("10.1.2.3\0", 9)).ok());
}

TEST_CASE("a network holds its addresses, and none of the other family") {
  CHECK(Range("10.1.0.0/16").Contains(Range("10.1.2.3")));
  CHECK_FALSE(Range("10.1.0.0/16").Contains(Range("10.2.0.0")));
  CHECK_FALSE(Range("10.1.0.0/16").Contains(Range("10.0.0.0/8")));
  CHECK(Range("10.1.0.0/16").Overlaps(Range("10.0.0.0/8")));
  CHECK(Range("fd00::/8").Contains(Range("fdff::1")));
  CHECK_FALSE(Range("0.0.0.0/0").Contains(Range("::")));
}

TEST_CASE("the nth address of a network") {
  CHECK(AddressIn(Range("10.200.0.0/16"), 2).ToString() == "10.200.0.2");
  CHECK(AddressIn(Range("10.200.0.0/16"), 0x1234).ToString() == "10.200.18.52");
  CHECK(AddressIn(Range("fd12:3456:789a::/64"), 0xfff0).ToString() == "fd12:3456:789a::fff0");
}

}  // namespace
}  // namespace ctr
