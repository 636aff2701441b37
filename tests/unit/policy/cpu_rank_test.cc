#include "agent/policy/cpu_rank.h"

#include <doctest/doctest.h>

namespace ctr::policy {

using namespace std::chrono_literals;

TEST_CASE("who keeps half a CPU busy goes behind, and comes back below a quarter") {
  CHECK_FALSE(GoesBehind(false, 249ms, 500ms));
  CHECK(GoesBehind(false, 250ms, 500ms));
  CHECK(GoesBehind(false, 4000ms, 500ms));
  CHECK(GoesBehind(true, 125ms, 500ms));
  CHECK_FALSE(GoesBehind(true, 124ms, 500ms));
}

TEST_CASE("a time that makes no sense changes nobody's rank") {
  for (bool behind : {false, true}) {
    CHECK(GoesBehind(behind, 1s, 0s) == behind);
    CHECK(GoesBehind(behind, 1s, -1s) == behind);
  }
  // A counter that began anew.
  CHECK_FALSE(GoesBehind(false, -1s, 1s));
}

}  // namespace ctr::policy
