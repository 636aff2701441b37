#include "cli/copy_side.h"

#include "absl/strings/str_cat.h"

namespace ctr::cli {

StatusOr<CopySide> ParseCopySide(std::string_view text) {
  if (text.empty()) return absl::InvalidArgumentError("a path is empty");
  CopySide side;
  const size_t colon = text.find(':');
  if (colon == std::string_view::npos || text.front() == '/' || text.front() == '.') {
    side.path = text;
    return side;
  }
  side.instance = text.substr(0, colon);
  side.path = text.substr(colon + 1);
  if (side.instance.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("no ID before the colon of \"", std::string(text),
                     "\"; a path here is written ./", std::string(text)));
  }
  if (side.path.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("no path after the colon of \"",
                                                   std::string(text), "\"; the root is ",
                                                   std::string(text), "/"));
  }
  return side;
}

}  // namespace ctr::cli
