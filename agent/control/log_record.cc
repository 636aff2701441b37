#include "agent/control/log_record.h"

#include <array>

#include "absl/strings/numbers.h"

namespace ctr {
namespace {

constexpr std::string_view kTimeForm = "0000-00-00T00:00:00.000000000Z";

bool HasTimeForm(std::string_view text) {
  for (size_t i = 0; i < kTimeForm.size(); ++i) {
    const bool digit = text[i] >= '0' && text[i] <= '9';
    if (kTimeForm[i] == '0' ? !digit : text[i] != kTimeForm[i]) return false;
  }
  return true;
}

int64_t Number(std::string_view text, size_t offset, size_t count) {
  int64_t number = 0;
  for (char digit : text.substr(offset, count)) number = number * 10 + (digit - '0');
  return number;
}

std::optional<WallTime> ParseTime(std::string_view text) {
  using namespace std::chrono;  // NOLINT: a dozen of its names
  if (text.size() < kTimeForm.size() || !HasTimeForm(text)) return std::nullopt;
  const year_month_day date(year(static_cast<int>(Number(text, 0, 4))),
                            month(static_cast<unsigned>(Number(text, 5, 2))),
                            day(static_cast<unsigned>(Number(text, 8, 2))));
  // The years that WallTime holds whole.
  if (!date.ok() || date.year() < year(1678) || date.year() > year(2261)) return std::nullopt;
  const int64_t hour = Number(text, 11, 2);
  const int64_t minute = Number(text, 14, 2);
  const int64_t second = Number(text, 17, 2);
  if (hour > 23 || minute > 59 || second > 59) return std::nullopt;
  return sys_days(date) + hours(hour) + minutes(minute) + seconds(second) +
         nanoseconds(Number(text, 20, 9));
}

// Takes the text up to a space, and the space.
std::string_view TakeWord(std::string_view& text) {
  const size_t space = text.find(' ');
  if (space == std::string_view::npos) return {};
  std::string_view word = text.substr(0, space);
  text.remove_prefix(space + 1);
  return word;
}

}  // namespace

std::optional<LogRecord> ParseLogRecord(std::string_view line) {
  LogRecord record;
  std::optional<WallTime> time = ParseTime(TakeWord(line));
  if (!time) return std::nullopt;
  record.time = *time;
  const std::string_view stream = TakeWord(line);
  if (stream != "stdout" && stream != "stderr") return std::nullopt;
  record.stream = stream == "stdout" ? LogStream::kStdout : LogStream::kStderr;
  const std::string_view tag = TakeWord(line);
  if (tag.size() < 3 || tag[1] != ':') return std::nullopt;
  if (!absl::SimpleAtoi(absl::string_view(tag.data() + 2, tag.size() - 2), &record.generation)) {
    return std::nullopt;
  }
  if (tag[0] == 'D') {
    if (!absl::SimpleAtoi(absl::string_view(line.data(), line.size()), &record.lost_bytes) ||
        record.lost_bytes <= 0) {
      return std::nullopt;
    }
    return record;
  }
  if (tag[0] != 'F' && tag[0] != 'P') return std::nullopt;
  record.partial = tag[0] == 'P';
  record.text = std::string(line);
  return record;
}

}  // namespace ctr
