#include "agent/config/image_digest_edit.h"

#include "absl/strings/str_cat.h"
#include "agent/config/class_file.h"

namespace ctr {
namespace {

// It stands before all else, or it is no TOML.
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

}  // namespace

StatusOr<std::string> WithImageDigest(std::string_view source, const ClassConfig& pinned) {
  if (source.starts_with(kByteOrderMark)) source.remove_prefix(kByteOrderMark.size());
  std::string text =
      absl::StrCat("image_digest = \"", pinned.image_digest, "\"\n", std::string(source));
  // It is read again at every start of the agent.
  StatusOr<ClassConfig> read = ParseClassFile(text, pinned.name);
  if (!read.ok()) return absl::InternalError(std::string(read.status().message()));
  if (*read == pinned) return text;
  return absl::InternalError(
      absl::StrCat(pinned.name, ": with the image's digest, its file would say something else"));
}

}  // namespace ctr
