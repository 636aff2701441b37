#include "agent/model/names.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace ctr {

bool IsDnsLabel(std::string_view text) {
  auto alphanumeric = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  if (text.empty() || text.size() > 63) return false;
  if (!alphanumeric(text.front()) || !alphanumeric(text.back())) return false;
  return std::all_of(text.begin(), text.end(), [&](char c) { return alphanumeric(c) || c == '-'; });
}

Status CheckDnsLabel(std::string_view text, std::string_view what) {
  if (IsDnsLabel(text)) return absl::OkStatus();
  return Error(
      absl::StatusCode::kInvalidArgument, code::kBadRequest,
      absl::StrCat(
          "\"", std::string(text.substr(0, 80)), "\" is not a valid ", std::string(what),
          ": use 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit"));
}

std::string RoutedId(int index) { return absl::StrCat("instance-", index); }

std::optional<int> RoutedIndexOf(std::string_view id) {
  constexpr std::string_view kPrefix = "instance-";
  int index = 0;
  if (!id.starts_with(kPrefix)) return std::nullopt;
  const std::string_view number = id.substr(kPrefix.size());
  if (!absl::SimpleAtoi(absl::string_view(number.data(), number.size()), &index) ||
      RoutedId(index) != id)
    return std::nullopt;
  return index;
}

}  // namespace ctr
