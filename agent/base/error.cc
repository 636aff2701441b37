#include "agent/base/error.h"

#include "absl/strings/ascii.h"
#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "agent/base/view.h"

namespace ctr {
namespace {

constexpr char kPayload[] = "ctr.error-code";
constexpr char kDetail[] = "ctr.detail";
constexpr char kRetryAfter[] = "ctr.retry-after";  // nanoseconds

}  // namespace

Status Error(absl::StatusCode status_code, std::string_view error_code, std::string_view message) {
  Status status(status_code, View(message));
  status.SetPayload(kPayload, absl::Cord(View(error_code)));
  return status;
}

std::string ErrorCodeOf(const Status& status) {
  if (status.ok()) return "";
  if (auto payload = status.GetPayload(kPayload)) return std::string(*payload);
  return absl::AsciiStrToLower(absl::StatusCodeToString(status.code()));
}

Status Annotate(const Status& status, std::string_view context) {
  if (status.ok()) return status;
  Status annotated(status.code(), absl::StrCat(View(context), ": ", status.message()));
  status.ForEachPayload([&](absl::string_view type, const absl::Cord& payload) {
    annotated.SetPayload(type, payload);
  });
  return annotated;
}

Status WithRetryAfter(Status status, Duration delay) {
  status.SetPayload(kRetryAfter, absl::Cord(absl::string_view(absl::StrCat(delay.count()))));
  return status;
}

std::optional<Duration> RetryAfterOf(const Status& status) {
  int64_t count = 0;
  auto payload = status.GetPayload(kRetryAfter);
  if (!payload || !absl::SimpleAtoi(std::string(*payload), &count)) return std::nullopt;
  return Duration(count);
}

Status WithDetail(Status status, std::string_view error_code) {
  if (!error_code.empty()) status.SetPayload(kDetail, absl::Cord(View(error_code)));
  return status;
}

std::string DetailOf(const Status& status) {
  auto payload = status.GetPayload(kDetail);
  return payload ? std::string(*payload) : "";
}

Status ErrnoError(int error_number, std::string_view what) {
  return absl::ErrnoToStatus(error_number, View(what));
}

}  // namespace ctr
