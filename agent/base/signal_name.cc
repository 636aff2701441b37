#include "agent/base/signal_name.h"

#include <signal.h>
#include <string.h>

#include <cstdint>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/strip.h"

namespace ctr {
namespace {

std::optional<int> IfSignal(int64_t number) {
  if (number < 1 || number > SIGRTMAX) return std::nullopt;
  return static_cast<int>(number);
}

}  // namespace

std::optional<int> ParseSignal(std::string_view text) {
  std::string upper = absl::AsciiStrToUpper({text.data(), text.size()});
  absl::string_view name = upper;
  int number = 0;
  if (absl::SimpleAtoi(name, &number)) return IfSignal(number);
  absl::ConsumePrefix(&name, "SIG");
  uint32_t offset = 0;
  if (name == "RTMIN") return SIGRTMIN;
  if (name == "RTMAX") return SIGRTMAX;
  if (absl::ConsumePrefix(&name, "RTMIN+")) {
    return absl::SimpleAtoi(name, &offset) ? IfSignal(int64_t{SIGRTMIN} + offset) : std::nullopt;
  }
  if (absl::ConsumePrefix(&name, "RTMAX-")) {
    return absl::SimpleAtoi(name, &offset) ? IfSignal(int64_t{SIGRTMAX} - offset) : std::nullopt;
  }
  for (int candidate = 1; candidate < SIGRTMIN; ++candidate) {
    const char* abbreviation = ::sigabbrev_np(candidate);
    if (abbreviation != nullptr && name == abbreviation) return candidate;
  }
  return std::nullopt;
}

}  // namespace ctr
