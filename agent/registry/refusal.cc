#include "agent/registry/refusal.h"

#include <algorithm>
#include <optional>

#include <nlohmann/json.hpp>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "agent/base/utf8.h"
#include "agent/runtime/image_config.h"

namespace ctr {
namespace {

constexpr size_t kMaxWordsBytes = 200;

std::string TextOf(const nlohmann::json& object, const char* name) {
  if (!object.is_object()) return "";
  auto member = object.find(name);
  return member != object.end() && member->is_string() ? member->get<std::string>() : "";
}

// HTTP's dates (RFC 9110, 5.6.7), as they have been written since 1995.
std::optional<absl::Time> DateOf(const std::string& text) {
  absl::Time time;
  std::string ignored;
  if (!absl::ParseTime("%a, %d %b %Y %H:%M:%S GMT", text, &time, &ignored)) return std::nullopt;
  return time;
}

// The beginning of it, without half a character at the end.
std::string Cut(std::string text) {
  if (text.size() <= kMaxWordsBytes) return text;
  size_t end = kMaxWordsBytes;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end) + "…";
}

}  // namespace

Duration AskedWait(const HttpResponse& response) {
  constexpr int64_t kMostSeconds = 24 * 3600;
  const std::string asked = response.Header("retry-after");
  int64_t seconds = 0;
  if (!absl::SimpleAtoi(asked, &seconds)) {
    const std::optional<absl::Time> until = DateOf(asked);
    const std::optional<absl::Time> now = DateOf(response.Header("date"));
    if (!until || !now) return Duration::zero();
    seconds = absl::ToInt64Seconds(*until - *now);
  }
  return std::chrono::seconds(std::clamp<int64_t>(seconds, 0, kMostSeconds));
}

std::string ItsWords(const HttpResponse& response) {
  const StatusOr<nlohmann::json> answer = ParseImageDocument(response.body, "it");
  if (!answer.ok() || !answer->is_object()) return "";
  auto errors = answer->find("errors");
  if (errors == answer->end() || !errors->is_array() || errors->empty()) return "";
  std::string words = TextOf(errors->front(), "code");
  const std::string message = TextOf(errors->front(), "message");
  if (!message.empty()) absl::StrAppend(&words, words.empty() ? "" : ": ", message);
  return words.empty() ? "" : absl::StrCat("; it says \"", Printable(Cut(std::move(words))), "\"");
}

}  // namespace ctr
