#include "agent/base/duration.h"

#include <array>
#include <charconv>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"

namespace ctr {
namespace {

struct Unit {
  std::string_view name;
  int64_t nanoseconds;
};

// Longest first within a unit: the text "ms" is not "m".
constexpr std::array<Unit, 6> kUnits = {{
    {"h", 3'600'000'000'000},
    {"ms", 1'000'000},
    {"m", 60'000'000'000},
    {"us", 1'000},
    {"ns", 1},
    {"s", 1'000'000'000},
}};

constexpr long double kMaxNanoseconds = 100.0L * 365 * 24 * 3600 * 1e9L;

Status BadDuration(std::string_view text) {
  return absl::InvalidArgumentError(
      absl::StrCat("\"", std::string(text),
                   "\" is not a duration; write it like 30s, 5m, 1h30m or a number of seconds"));
}

}  // namespace

StatusOr<Duration> ParseDuration(std::string_view text) {
  // Exact for every number of nanoseconds, which a double is not.
  long double total = 0;
  std::string_view rest = text;
  bool first = true;
  if (text.empty()) return BadDuration(text);
  while (!rest.empty()) {
    if ((rest[0] < '0' || rest[0] > '9') && rest[0] != '.') return BadDuration(text);
    long double number = 0;
    auto [end, error] =
        std::from_chars(rest.data(), rest.data() + rest.size(), number, std::chars_format::fixed);
    if (error != std::errc()) return BadDuration(text);
    rest.remove_prefix(end - rest.data());
    if (rest.empty()) {
      if (!first) return BadDuration(text);
      total = number * 1e9L;
      break;
    }
    bool known = false;
    for (const Unit& unit : kUnits) {
      if (!rest.starts_with(unit.name)) continue;
      total += number * static_cast<long double>(unit.nanoseconds);
      rest.remove_prefix(unit.name.size());
      known = true;
      break;
    }
    if (!known) return BadDuration(text);
    first = false;
  }
  if (total > kMaxNanoseconds) return BadDuration(text);
  return Duration(std::llroundl(total));
}

std::string FormatDuration(Duration duration) {
  constexpr std::array<Unit, 6> kDescending = {{
      {"h", 3'600'000'000'000},
      {"m", 60'000'000'000},
      {"s", 1'000'000'000},
      {"ms", 1'000'000},
      {"us", 1'000},
      {"ns", 1},
  }};
  std::string text;
  int64_t rest = duration.count();
  if (rest < 0) {
    text = "-";
    rest = -rest;
  }
  if (rest == 0) return "0s";
  for (const Unit& unit : kDescending) {
    if (rest < unit.nanoseconds) continue;
    absl::StrAppend(&text, rest / unit.nanoseconds, std::string(unit.name));
    rest %= unit.nanoseconds;
  }
  return text;
}

}  // namespace ctr
