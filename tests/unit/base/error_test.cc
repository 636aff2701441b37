#include "agent/base/error.h"

#include <cerrno>
#include <string>

#include <doctest/doctest.h>

namespace ctr {
namespace {

StatusOr<int> Half(int number) {
  if (number % 2 != 0) return absl::InvalidArgumentError("odd");
  return number / 2;
}

Status CheckQuarter(int number, int expected) {
  CTR_ASSIGN_OR_RETURN(int half, Half(number));
  CTR_ASSIGN_OR_RETURN(half, Half(half));
  CTR_RETURN_IF_ERROR(half == expected ? absl::OkStatus() : absl::InternalError("other"));
  return absl::OkStatus();
}

}  // namespace

TEST_CASE("an error carries the name that programs know it by") {
  Status status = Error(absl::StatusCode::kFailedPrecondition, code::kManualStart, "start it");
  CHECK(absl::IsFailedPrecondition(status));
  CHECK(status.message() == "start it");
  CHECK(ErrorCodeOf(status) == "manual_start");
}

TEST_CASE("an error without a name of its own has that of its code") {
  CHECK(ErrorCodeOf(absl::NotFoundError("x")) == "not_found");
  CHECK(ErrorCodeOf(absl::DeadlineExceededError("x")) == "deadline_exceeded");
  CHECK(ErrorCodeOf(absl::OkStatus()).empty());
}

TEST_CASE("what is said before a message keeps code and name") {
  Status status =
      Annotate(Error(absl::StatusCode::kAborted, code::kStartFailed, "exited with 1"), "web/alice");
  CHECK(absl::IsAborted(status));
  CHECK(status.message() == "web/alice: exited with 1");
  CHECK(ErrorCodeOf(status) == "start_failed");
  CHECK(Annotate(absl::OkStatus(), "context").ok());
}

TEST_CASE("an errno becomes a status with its text") {
  Status status = ErrnoError(ENOENT, "/x");
  CHECK(absl::IsNotFound(status));
  CHECK(std::string(status.message()) == "/x: No such file or directory");
  CHECK(absl::IsResourceExhausted(ErrnoError(ENOSPC, "/x")));
}

TEST_CASE("the macros return the first error") {
  CHECK(CheckQuarter(12, 3).ok());
  CHECK(absl::IsInvalidArgument(CheckQuarter(6, 1)));
  CHECK(absl::IsInternal(CheckQuarter(12, 4)));
}

}  // namespace ctr
