#include "agent/proxy/error_answer.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/proxy/http_rewrite.h"

namespace ctr {
namespace {

constexpr std::array<std::pair<std::string_view, int>, 14> kStatusByCode = {{
    {code::kBadRequest, 400},
    {code::kUnknownClass, 404},
    {code::kUnknownInstance, 404},
    {code::kManualStart, 409},
    {code::kStartFailed, 502},
    {code::kUpstreamError, 502},
    {code::kMaxInstances, 503},
    {code::kOverloaded, 503},
    {code::kQueueFull, 503},
    {code::kDraining, 503},
    {code::kStartTimeout, 504},
    {code::kUpstreamTimeout, 504},
    {code::kUnknownImage, 502},
    {code::kDiskFull, 503},
}};

constexpr std::array<std::pair<std::string_view, int>, 6> kStatusByDetail = {{
    {detail::kExpectationFailed, 417},
    {detail::kFieldsTooLarge, 431},
    {detail::kMethodNotAllowed, 405},
    {detail::kNotImplemented, 501},
    {detail::kTargetTooLong, 414},
    {detail::kVersionNotSupported, 505},
}};

std::string_view ReasonOf(int status) {
  switch (status) {
    case 400:
      return "Bad Request";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 414:
      return "URI Too Long";
    case 417:
      return "Expectation Failed";
    case 431:
      return "Request Header Fields Too Large";
    case 501:
      return "Not Implemented";
    case 502:
      return "Bad Gateway";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return "Internal Server Error";
  }
}

// One line: the message may quote what a client or a program sent.
std::string OneLine(absl::string_view message) {
  std::string line(message);
  for (char& c : line) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  return line;
}

std::string JsonString(std::string_view text) {
  std::string quoted = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted + "\"";
}

}  // namespace

int HttpStatusOf(const Status& error) {
  const std::string code = ErrorCodeOf(error);
  if (code == code::kBadRequest && absl::IsDeadlineExceeded(error)) return 408;
  const std::string detail = DetailOf(error);
  for (const auto& [known, status] : kStatusByDetail) {
    if (known == detail) return status;
  }
  for (const auto& [known, status] : kStatusByCode) {
    if (known == code) return status;
  }
  return 500;
}

std::string ErrorAnswer(const Status& error, AnswerForm form) {
  const int status = HttpStatusOf(error);
  const std::string code = ErrorCodeOf(error);
  const std::string message = OneLine(error.message());
  const std::string body = form.json ? absl::StrCat("{\"error\":{\"code\":", JsonString(code),
                                                    ",\"message\":", JsonString(message), "}}\n")
                                     : absl::StrCat(message, "\n");
  std::string out = absl::StrCat(
      "HTTP/1.1 ", status, " ", std::string(ReasonOf(status)),
      "\r\nContent-Type: ", form.json ? "application/json" : "text/plain; charset=utf-8",
      "\r\nContent-Length: ", body.size(), "\r\nCtr-Error: ", code, "\r\n");
  std::optional<Duration> retry_after = RetryAfterOf(error);
  if (status == 503 && !retry_after) retry_after = std::chrono::seconds(1);
  if (retry_after) {
    const auto delay = std::chrono::ceil<std::chrono::seconds>(*retry_after).count();
    absl::StrAppend(&out, "Retry-After: ", std::max<int64_t>(1, delay), "\r\n");
  }
  AppendConnection(out, form.http10, form.keep_alive);
  out += "\r\n";
  if (!form.head) out += body;
  return out;
}

bool WantsJson(const Fields& fields) {
  for (const Field& field : fields) {
    if (field.id != FieldId::kAccept) continue;
    std::string_view list = field.value;
    while (!list.empty()) {
      std::string_view media = TakeElement(list);
      media = media.substr(0, media.find(';'));
      if (ListHas(media, "application/json")) return true;
    }
  }
  return false;
}

}  // namespace ctr
