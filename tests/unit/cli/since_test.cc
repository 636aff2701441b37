#include "cli/since.h"

#include <doctest/doctest.h>

namespace ctr::cli::since_test {
namespace {

constexpr int64_t kNowMs = 1'795'467'600'250;  // 2026-11-23T21:00:00.250Z
const WallTime kNow{std::chrono::milliseconds(kNowMs)};

int64_t Since(const std::string& text) {
  StatusOr<int64_t> since = ParseSince(text, kNow);
  INFO(text);
  REQUIRE_MESSAGE(since.ok(), since.status().ToString());
  return *since;
}

TEST_CASE("--since takes a duration before now") {
  CHECK(Since("10m") == kNowMs - 600'000);
  CHECK(Since("1h30m") == kNowMs - 5'400'000);
  CHECK(Since("2.5") == kNowMs - 2'500);
  CHECK(Since("0") == kNowMs);
  CHECK(Since("876000h") == 1);  // before 1970
}

TEST_CASE("--since takes a time as RFC 3339 writes it, in any zone") {
  CHECK(Since("2026-11-23T21:00:00Z") == kNowMs - 250);
  CHECK(Since("2026-11-23T21:00:00.25Z") == kNowMs);
  CHECK(Since("2026-11-23t21:00:00.2504999z") == kNowMs);
  CHECK(Since("2026-11-23T22:30:00.250+01:30") == kNowMs);
  CHECK(Since("2026-11-23 16:00:00.250-05:00") == kNowMs);
  CHECK(Since("2028-02-29T00:00:00Z") == 1'835'395'200'000);
}

TEST_CASE("--since refuses what is neither, and says how it is written") {
  for (const char* text : {"", "yesterday", "-5m", "2026-11-23", "2026-11-23T21:00",
                           "2026-11-23T21:00:00", "2026-02-31T00:00:00Z", "2026-13-01T00:00:00Z",
                           "2026-11-23T24:00:00Z", "2026-11-23T21:00:00.Z", "2026-11-23T21:00:00Zx",
                           "2026-11-23T21:00:00+1:00", "+026-11-23T21:00:00Z"}) {
    StatusOr<int64_t> since = ParseSince(text, kNow);
    CHECK_MESSAGE(absl::IsInvalidArgument(since.status()), text);
    CHECK(since.status().message().find("10m") != absl::string_view::npos);
  }
}

}  // namespace
}  // namespace ctr::cli::since_test
