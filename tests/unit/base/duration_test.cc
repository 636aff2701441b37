#include "agent/base/duration.h"

#include <doctest/doctest.h>

namespace ctr {
namespace {

using namespace std::chrono_literals;

TEST_CASE("durations are read as Go writes them, or as seconds") {
  CHECK(*ParseDuration("30s") == 30s);
  CHECK(*ParseDuration("1h30m") == 90min);
  CHECK(*ParseDuration("250ms") == 250ms);
  CHECK(*ParseDuration("1.5m") == 90s);
  CHECK(*ParseDuration("90") == 90s);
  CHECK(*ParseDuration("0") == 0s);
}

TEST_CASE("what is not a duration is refused") {
  for (const char* text :
       {"", "s", "-5s", "5 s", "5x", "1h30", "inf", "nan", "1e3s", "99999999h"}) {
    CAPTURE(text);
    CHECK(ParseDuration(text).status().code() == absl::StatusCode::kInvalidArgument);
  }
}

TEST_CASE("a formatted duration reads back as the same") {
  for (Duration duration :
       {Duration(0), Duration(90min), Duration(250ms), Duration(10s), Duration(1ns),
        // More than 2^53 ns, which a double would round.
        Duration(1222222227s) + Duration(722'224'445ns)}) {
    CHECK(*ParseDuration(FormatDuration(duration)) == duration);
  }
  CHECK(FormatDuration(90min) == "1h30m");
}

}  // namespace
}  // namespace ctr
