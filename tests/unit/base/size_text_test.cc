#include "agent/base/size_text.h"

#include <doctest/doctest.h>

namespace ctr {

TEST_CASE("sizes are in binary units") {
  CHECK(FormatSize(0) == "0B");
  CHECK(FormatSize(1023) == "1023B");
  CHECK(FormatSize(1024) == "1.0KiB");
  CHECK(FormatSize(1024 * 1024 - 1) == "1.0MiB");
  CHECK(FormatSize(4'404'019) == "4.2MiB");
  CHECK(FormatSize(int64_t{5} << 40) == "5.0TiB");
}

}  // namespace ctr
