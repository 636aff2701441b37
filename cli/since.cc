#include "cli/since.h"

#include <time.h>

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "agent/base/duration.h"

namespace ctr::cli {
namespace {

// Takes `count` digits off the front of `text`.
std::optional<int> TakeDigits(absl::string_view& text, size_t count) {
  int number = 0;
  const absl::string_view digits = text.substr(0, count);
  const bool all = digits.size() == count && std::all_of(digits.begin(), digits.end(), [](char c) {
                     return c >= '0' && c <= '9';
                   });
  if (!all || !absl::SimpleAtoi(digits, &number)) return std::nullopt;
  text.remove_prefix(count);
  return number;
}

bool TakeOneOf(absl::string_view& text, absl::string_view characters) {
  if (text.empty() || characters.find(text.front()) == absl::string_view::npos) return false;
  text.remove_prefix(1);
  return true;
}

// Milliseconds of ".123456".
std::optional<int> TakeFraction(absl::string_view& text) {
  if (!TakeOneOf(text, ".")) return 0;
  const size_t size = std::min(text.find_first_not_of("0123456789"), text.size());
  if (size == 0) return std::nullopt;
  std::string digits(text.substr(0, std::min<size_t>(size, 3)));
  digits.resize(3, '0');
  text.remove_prefix(size);
  int milliseconds = 0;
  return absl::SimpleAtoi(digits, &milliseconds) ? std::optional<int>(milliseconds) : std::nullopt;
}

// Seconds east of Greenwich; the end of the text.
std::optional<int> TakeZone(absl::string_view text) {
  if (text == "Z" || text == "z") return 0;
  const bool west = !text.empty() && text.front() == '-';
  if (!TakeOneOf(text, "+-")) return std::nullopt;
  const std::optional<int> hours = TakeDigits(text, 2);
  if (!hours || !TakeOneOf(text, ":")) return std::nullopt;
  const std::optional<int> minutes = TakeDigits(text, 2);
  if (!minutes || !text.empty() || *hours > 23 || *minutes > 59) return std::nullopt;
  return (west ? -1 : 1) * (*hours * 3600 + *minutes * 60);
}

}  // namespace

std::optional<int64_t> ParseTime(absl::string_view text) {
  tm parts = {};
  const auto take = [&](size_t count, absl::string_view after) -> std::optional<int> {
    std::optional<int> number = TakeDigits(text, count);
    if (number && !after.empty() && !TakeOneOf(text, after)) return std::nullopt;
    return number;
  };
  const std::optional<int> year = take(4, "-");
  const std::optional<int> month = take(2, "-");
  const std::optional<int> day = take(2, "Tt ");
  const std::optional<int> hour = take(2, ":");
  const std::optional<int> minute = take(2, ":");
  const std::optional<int> second = take(2, "");
  if (!year || !month || !day || !hour || !minute || !second) return std::nullopt;
  const std::optional<int> milliseconds = TakeFraction(text);
  const std::optional<int> zone = TakeZone(text);
  if (!milliseconds || !zone) return std::nullopt;
  if (*month < 1 || *month > 12 || *day < 1 || *hour > 23 || *minute > 59 || *second > 60) {
    return std::nullopt;
  }
  parts.tm_year = *year - 1900;
  parts.tm_mon = *month - 1;
  parts.tm_mday = *day;
  parts.tm_hour = *hour;
  parts.tm_min = *minute;
  parts.tm_sec = *second;
  const int64_t seconds = ::timegm(&parts);
  if (parts.tm_mday != *day) return std::nullopt;  // there is no 31st of February
  return (seconds - *zone) * 1000 + *milliseconds;
}

StatusOr<int64_t> ParseSince(const std::string& text, WallTime now) {
  std::optional<int64_t> at = ParseTime(text);
  if (!at) {
    StatusOr<Duration> ago = ParseDuration(text);
    if (!ago.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("--since: \"", text,
                       "\" is neither a duration nor a time; write it like 10m, or "
                       "2026-11-25T09:40:12Z"));
    }
    at = std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch() - *ago)
             .count();
  }
  return std::max<int64_t>(*at, 1);
}

}  // namespace ctr::cli
