#include "agent/tar/outcome.h"

#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "agent/tar/bytes.h"

namespace ctr::tar {
namespace {

constexpr absl::string_view kDone = "done";
constexpr absl::string_view kFailed = "failed";

}  // namespace

std::string OutcomeText(const StatusOr<Totals>& outcome) {
  if (!outcome.ok()) {
    return absl::StrCat(kFailed, "\t", outcome.status().raw_code(), "\t",
                        outcome.status().message());
  }
  return absl::StrCat(kDone, "\t", outcome->entries, "\t", outcome->bytes, "\t", outcome->left_out,
                      "\t", outcome->first_left_out);
}

StatusOr<Totals> ParseOutcome(std::string_view text) {
  const absl::string_view view(text.data(), text.size());
  std::vector<absl::string_view> fields = absl::StrSplit(view, '\t');
  int code = 0;
  if (fields.size() == 3 && fields[0] == kFailed && absl::SimpleAtoi(fields[1], &code) &&
      code != 0) {
    return Status(static_cast<absl::StatusCode>(code), fields[2]);
  }
  Totals totals;
  if (fields.size() == 5 && fields[0] == kDone && absl::SimpleAtoi(fields[1], &totals.entries) &&
      absl::SimpleAtoi(fields[2], &totals.bytes) && absl::SimpleAtoi(fields[3], &totals.left_out)) {
    totals.first_left_out = std::string(fields[4]);
    return totals;
  }
  return absl::InternalError(absl::StrCat("the copy in the instance broke off: ", Shown(text)));
}

}  // namespace ctr::tar
