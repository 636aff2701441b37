#include "agent/base/utf8.h"

#include <doctest/doctest.h>

namespace ctr {

TEST_CASE("of somebody else's words, neither a terminal nor a log gets control characters") {
  CHECK(Printable("it has nothing for \x1b[31mlinux\x1b[0m\r\nforged line\t\x7f") ==
        "it has nothing for ?[31mlinux?[0m??forged line??");
  CHECK(Printable(std::string_view("a\0b", 3)) == "a?b");
  CHECK(Printable("\u009b31m") == "?31m");
}

TEST_CASE("text in any language stays as it is, and what is no UTF-8 does not") {
  CHECK(Printable("größer, …, 日本, 🙂") == "größer, …, 日本, 🙂");
  CHECK(Printable("a\xff\xc3") == "a??");
  CHECK(Printable("").empty());
}

}  // namespace ctr
