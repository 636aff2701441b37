#include "agent/config/memory_size.h"

#include <utility>

#include <doctest/doctest.h>

namespace ctr {

TEST_CASE("memory sizes are read as docker reads them") {
  for (auto [text, bytes] : {
           std::pair<const char*, int64_t>{"0", 0},
           {"1048576", 1048576},
           {"100B", 100},
           {"1k", 1024},
           {"1KB", 1024},
           {"2KiB", 2048},
           {"512m", 536870912},
           {"256MiB", 268435456},
           {"256mb", 268435456},
           {"1.5g", 1610612736},
           {"1TiB", 1099511627776},
       }) {
    StatusOr<int64_t> parsed = ParseMemorySize(text);
    INFO(text);
    REQUIRE(parsed.ok());
    CHECK(*parsed == bytes);
  }
}

TEST_CASE("what is no memory size is refused") {
  for (const char* text : {"", "MiB", "-1", "1x", "1 GiB", "1MiBs", "1ib", ".5g", "1e3", "0x10",
                           "inf", "nan", "4096PiB"}) {
    INFO(text);
    CHECK(absl::IsInvalidArgument(ParseMemorySize(text).status()));
  }
}

TEST_CASE("a formatted memory size reads back as the same") {
  for (int64_t bytes : {int64_t{0}, int64_t{1}, int64_t{1000}, int64_t{1024}, int64_t{6291457},
                        int64_t{268435456}, int64_t{1} << 50}) {
    CHECK(*ParseMemorySize(FormatMemorySize(bytes)) == bytes);
  }
  CHECK(FormatMemorySize(268435456) == "256MiB");
  CHECK(FormatMemorySize(1000) == "1000B");
}

}  // namespace ctr
