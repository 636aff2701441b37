#include "agent/proxy/connection_limits.h"

#include <vector>

#include <doctest/doctest.h>

namespace ctr {
namespace {

TEST_CASE("a client has no more connections than it may, and another one when one ends") {
  ConnectionLimits limits({.per_client = 2});
  std::vector<ClientShare> shares(2);
  for (ClientShare& share : shares) CHECK_FALSE(limits.Take("10.0.0.1", false, 0, share));
  ClientShare third;
  CHECK(limits.Take("10.0.0.1", false, 0, third) == "max_connections_per_client");
  ClientShare other;
  CHECK_FALSE(limits.Take("10.0.0.2", false, 0, other));
  shares.pop_back();
  CHECK_FALSE(limits.Take("10.0.0.1", false, 0, third));
}

TEST_CASE("clients of this host are limited only where that was asked for") {
  for (bool asked : {false, true}) {
    ConnectionLimits limits({.per_client = 1, .loopback_too = asked});
    ClientShare first;
    ClientShare second;
    CHECK_FALSE(limits.Take("127.0.0.1", true, 0, first));
    CHECK(limits.Take("127.0.0.1", true, 0, second).has_value() == asked);
  }
}

TEST_CASE("connections are limited in all; without limits there is none") {
  ConnectionLimits limits({.total = 10});
  ClientShare share;
  CHECK_FALSE(limits.Take("10.0.0.1", false, 9, share));
  CHECK(limits.Take("10.0.0.1", false, 10, share) == "max_connections");
  ConnectionLimits none({});
  for (size_t i = 0; i < 1000; ++i) CHECK_FALSE(none.Take("10.0.0.1", false, i, share));
}

TEST_CASE("clients that have gone are forgotten, those that are there are not") {
  ConnectionLimits limits({.per_client = 1});
  ClientShare stays;
  CHECK_FALSE(limits.Take("stays", false, 0, stays));
  for (int i = 0; i < 1000; ++i) {
    ClientShare passing;
    CHECK_FALSE(limits.Take(std::to_string(i), false, 0, passing));
  }
  ClientShare second;
  CHECK(limits.Take("stays", false, 0, second));
}

}  // namespace
}  // namespace ctr
