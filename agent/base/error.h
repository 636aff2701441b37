#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/base/time.h"

namespace ctr {

using absl::Status;
using absl::StatusOr;

// The machine-readable name of an error, the same on the ingress (Ctr-Error), in the API and in the
// CLI's JSON. A Status carries it as a payload; one without it has the name of its absl code.
namespace code {
inline constexpr std::string_view kBadRequest = "bad_request";
inline constexpr std::string_view kUnknownClass = "unknown_class";
inline constexpr std::string_view kUnknownInstance = "unknown_instance";
inline constexpr std::string_view kUnknownImage = "unknown_image";
inline constexpr std::string_view kPullFailed = "pull_failed";
inline constexpr std::string_view kImagesFull = "images_full";
inline constexpr std::string_view kManualStart = "manual_start";
inline constexpr std::string_view kMaxInstances = "max_instances";
inline constexpr std::string_view kOverloaded = "overloaded";
inline constexpr std::string_view kQueueFull = "queue_full";
inline constexpr std::string_view kDraining = "draining";
inline constexpr std::string_view kStartFailed = "start_failed";
inline constexpr std::string_view kStartTimeout = "start_timeout";
inline constexpr std::string_view kUpstreamError = "upstream_error";
inline constexpr std::string_view kUpstreamTimeout = "upstream_timeout";
inline constexpr std::string_view kDiskFull = "disk_full";
inline constexpr std::string_view kConflict = "conflict";
inline constexpr std::string_view kInUse = "in_use";
inline constexpr std::string_view kHandedOver = "handed_over";
inline constexpr std::string_view kCommandNotFound = "command_not_found";
inline constexpr std::string_view kCommandNotExecutable = "command_not_executable";
}  // namespace code

// A Status of `status_code` that carries `error_code`. `message` says what failed, on what, and
// what to do.
Status Error(absl::StatusCode status_code, std::string_view error_code, std::string_view message);

// The error code that `status` carries, else the lower-case name of its absl code ("not_found"); ""
// if it is OK.
std::string ErrorCodeOf(const Status& status);

// The same error, worth trying again after `delay`: the ingress says so (Retry-After).
Status WithRetryAfter(Status status, Duration delay);
std::optional<Duration> RetryAfterOf(const Status& status);

// The same error with a finer code beside its own, for those who tell such apart.
Status WithDetail(Status status, std::string_view error_code);
// "" if there is none.
std::string DetailOf(const Status& status);

// `status` with "`context`: " before its message; code and payloads are kept. OK stays OK.
Status Annotate(const Status& status, std::string_view context);

// What errno says, as a Status: "`what`: No such file or directory".
Status ErrnoError(int error_number, std::string_view what);

#define CTR_CONCAT_INNER(a, b) a##b
#define CTR_CONCAT(a, b) CTR_CONCAT_INNER(a, b)

// Returns from the function if `expression` is not OK. The CO_ forms are for coroutines.
#define CTR_RETURN_IF_ERROR(expression) \
  if (::absl::Status ctr_status = (expression); !ctr_status.ok()) return ctr_status
#define CTR_CO_RETURN_IF_ERROR(expression) \
  if (::absl::Status ctr_status = (expression); !ctr_status.ok()) co_return ctr_status

// Declares or assigns `lhs` from a StatusOr, or returns its error.
#define CTR_ASSIGN_OR_RETURN(lhs, expression) \
  CTR_ASSIGN_OR_(CTR_CONCAT(ctr_result_, __LINE__), lhs, expression, return)
#define CTR_CO_ASSIGN_OR_RETURN(lhs, expression) \
  CTR_ASSIGN_OR_(CTR_CONCAT(ctr_result_, __LINE__), lhs, expression, co_return)
#define CTR_ASSIGN_OR_(result, lhs, expression, return_) \
  auto result = (expression);                            \
  if (!result.ok()) return_ std::move(result).status();  \
  lhs = std::move(*result)

}  // namespace ctr
