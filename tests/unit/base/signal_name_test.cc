#include "agent/base/signal_name.h"

#include <signal.h>

#include <doctest/doctest.h>

namespace ctr {
namespace {

TEST_CASE("a signal is read by name, by number and in any case") {
  CHECK(ParseSignal("SIGTERM") == SIGTERM);
  CHECK(ParseSignal("term") == SIGTERM);
  CHECK(ParseSignal("15") == 15);
  CHECK(ParseSignal("SIGRTMIN+3") == SIGRTMIN + 3);
  CHECK(ParseSignal("RTMAX-1") == SIGRTMAX - 1);
}

TEST_CASE("what is no signal is not read as one") {
  for (const char* text : {"", "0", "65", "-1", "SIG", "SIGNOPE", "SIGRTMIN+99", "RTMIN+-1",
                           "RTMIN+2147483647", "RTMAX-4294967295", "15x"}) {
    CAPTURE(text);
    CHECK(ParseSignal(text) == std::nullopt);
  }
}

}  // namespace
}  // namespace ctr
