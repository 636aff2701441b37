#include "agent/registry/blob_transfer.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace ctr {
namespace {

// What counts as getting on, so that a connection that breaks after every byte is given up.
constexpr int64_t kProgressBytes = 64 << 10;

}  // namespace

Status RegistrySession::BlobTransfer::CheckHead(const HttpResponse& response) {
  int64_t length = 0;
  const bool has_length = absl::SimpleAtoi(response.Header("content-length"), &length);
  int64_t begin = 0;
  if (response.status == 206) {
    const std::string range = response.Header("content-range");
    const std::string wanted = absl::StrCat("bytes ", asked_, "-");
    if (!absl::StartsWith(range, wanted)) {
      return absl::FailedPreconditionError(
          absl::StrCat("asked for ", blob_.digest, " from byte ", asked_,
                       " on, the registry sends another part: that is refused"));
    }
    begin = asked_;
  }
  skip_ = asked_ - begin;
  if (has_length && length != blob_.size - begin) {
    return absl::FailedPreconditionError(
        absl::StrCat("the registry says that ", blob_.digest, " has ", begin + length,
                     " bytes, and its manifest ", blob_.size, ": it is corrupt, and refused"));
  }
  return absl::OkStatus();
}

Status RegistrySession::BlobTransfer::Take(const HttpResponse& response, std::string_view piece) {
  if (!begun_) {
    begun_ = true;
    CTR_RETURN_IF_ERROR(CheckHead(response));
  }
  const auto skipped =
      static_cast<size_t>(std::min<int64_t>(skip_, static_cast<int64_t>(piece.size())));
  skip_ -= static_cast<int64_t>(skipped);
  piece.remove_prefix(skipped);
  if (piece.empty()) return absl::OkStatus();
  if (static_cast<int64_t>(piece.size()) > blob_.size - received_) {
    return absl::FailedPreconditionError(
        absl::StrCat("the registry sends more of ", blob_.digest, " than the ", blob_.size,
                     " bytes that its manifest says: it is corrupt, and refused"));
  }
  sink_error_ = sink_(piece);
  received_ += static_cast<int64_t>(piece.size());
  return sink_error_;
}

Status RegistrySession::BlobTransfer::CheckWhole() const {
  if (received_ == blob_.size) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("the registry sent ", received_, " of the ",
                                             blob_.size, " bytes of ", blob_.digest));
}

bool RegistrySession::BlobTransfer::HasProgressed() {
  if (received_ - marked_ < kProgressBytes) return false;
  marked_ = received_;
  return true;
}

}  // namespace ctr
