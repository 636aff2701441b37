#include "agent/control/log_record.h"

#include <string>

#include <doctest/doctest.h>

namespace ctr {
namespace {

std::optional<LogRecord> At(const std::string& time) {
  return ParseLogRecord(time + " stdout F:7 text");
}

TEST_CASE("a record of an impossible time is none") {
  CHECK(At("2026-11-25T23:59:59.999999999Z"));
  for (const char* time : {"2026-02-30T00:00:00.000000000Z", "2026-11-25T24:00:00.000000000Z",
                           "2026-11-25T00:60:00.000000000Z", "2026-11-25T00:00:60.000000000Z",
                           // No WallTime holds them: they wrapped around.
                           "6220-11-25T09:00:00.000000000Z", "0001-01-01T00:00:00.000000000Z"}) {
    CAPTURE(time);
    CHECK_FALSE(At(time));
  }
}

}  // namespace
}  // namespace ctr
