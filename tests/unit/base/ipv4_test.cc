#include "agent/base/ipv4.h"

#include <doctest/doctest.h>

namespace ctr {
namespace {

TEST_CASE("a range of addresses is read and written") {
  StatusOr<Ipv4Range> range = ParseIpv4Range("127.77.0.0/16");
  REQUIRE(range.ok());
  CHECK(range->ToString() == "127.77.0.0/16");
  CHECK(range->Contains(0x7F4D0102));
  CHECK_FALSE(range->Contains(0x7F4E0000));
  CHECK(range->Overlaps(*ParseIpv4Range("127.0.0.0/8")));
  CHECK(range->Overlaps(*ParseIpv4Range("127.77.1.0/24")));
  CHECK_FALSE(range->Overlaps(*ParseIpv4Range("127.76.0.0/16")));
  CHECK(ParseIpv4Range("0.0.0.0/0")->Contains(1));
}

TEST_CASE("what is no range of addresses is refused") {
  for (const char* bad : {"", "127.77.0.0", "127.77.0.0/33", "127.77.0.0/-1", "127.77.0/16",
                          "127.77.0.1/16", "127.77.0.0/", "127.77.0.0/1x", "a/16", "/16"}) {
    CAPTURE(bad);
    CHECK_FALSE(ParseIpv4Range(bad).ok());
  }
  CHECK_FALSE(ParseIpv4Range(std::string_view("127.77.0.0\0x/16", 15)).ok());
}

}  // namespace
}  // namespace ctr
