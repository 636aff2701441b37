#include "agent/config/memory_size.h"

#include <array>
#include <charconv>
#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace ctr {
namespace {

constexpr absl::string_view kUnits = "kmgtp";
constexpr double kMaxBytes = 1125899906842624.0 * 1024;  // far more than any host, exact as double

}  // namespace

StatusOr<int64_t> ParseMemorySize(std::string_view text) {
  const Status refused = absl::InvalidArgumentError(absl::StrCat(
      "\"", std::string(text), "\" is not a size; write it like 256MiB, 512m or 1GiB"));
  if (text.empty() || !absl::ascii_isdigit(static_cast<unsigned char>(text[0]))) return refused;
  double number = 0;
  auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  if (error != std::errc()) return refused;
  std::string unit = absl::AsciiStrToLower(absl::string_view(end, text.data() + text.size() - end));
  if (!unit.empty() && unit != "b") {
    const size_t power = kUnits.find(unit[0]);
    if (power == absl::string_view::npos) return refused;
    const std::string rest = unit.substr(1);
    if (!rest.empty() && rest != "b" && rest != "ib") return refused;
    number *= std::pow(1024.0, static_cast<double>(power + 1));
  }
  if (number > kMaxBytes) return refused;
  return static_cast<int64_t>(number);
}

std::string FormatMemorySize(int64_t bytes) {
  constexpr std::array<const char*, 6> kNames = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  size_t unit = 0;
  while (unit + 1 < kNames.size() && bytes != 0 && bytes % 1024 == 0) {
    bytes /= 1024;
    ++unit;
  }
  return absl::StrCat(bytes, kNames[unit]);
}

}  // namespace ctr
