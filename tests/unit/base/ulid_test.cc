#include "agent/base/ulid.h"

#include <chrono>
#include <set>
#include <string>

#include <doctest/doctest.h>

namespace ctr {
namespace {

WallTime AtMilliseconds(int64_t milliseconds) {
  return WallTime(std::chrono::milliseconds(milliseconds));
}

}  // namespace

TEST_CASE("a ULID begins with its time") {
  // The example of the specification.
  CHECK(NewUlid(AtMilliseconds(1469918176385)).starts_with("01aryz6s41"));
  CHECK(NewUlid(AtMilliseconds(0)).starts_with("0000000000"));
  CHECK(NewUlid(AtMilliseconds(9'000'000'000'000)).starts_with("085xwwv400"));
}

TEST_CASE("a ULID is 26 characters of Crockford's base 32") {
  const std::string ulid = NewUlid(AtMilliseconds(1469918176385));
  CHECK(ulid.size() == 26);
  CHECK(ulid.find_first_not_of("0123456789abcdefghjkmnpqrstvwxyz") == std::string::npos);
}

TEST_CASE("ULIDs of one millisecond differ, and those of later ones sort behind") {
  std::set<std::string> ulids;
  for (int i = 0; i < 1000; ++i) ulids.insert(NewUlid(AtMilliseconds(5)));
  CHECK(ulids.size() == 1000);
  CHECK(*ulids.rbegin() < NewUlid(AtMilliseconds(6)));
}

}  // namespace ctr
