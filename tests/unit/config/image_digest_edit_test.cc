#include "agent/config/image_digest_edit.h"

#include <doctest/doctest.h>

#include "agent/config/class_file.h"

namespace ctr {
namespace {

constexpr char kFile[] = "name = \"web\"\nimage = \"demo\"\ndefault_port = 8080\n";

ClassConfig Pinned(std::string_view source) {
  StatusOr<ClassConfig> config = ParseClassFile(source, "it");
  REQUIRE_MESSAGE(config.ok(), config.status().ToString());
  config->image_digest = "sha256:" + std::string(64, 'a');
  return *config;
}

}  // namespace

TEST_CASE("the digest that a class runs is written into its file") {
  StatusOr<std::string> text = WithImageDigest(kFile, Pinned(kFile));
  REQUIRE_MESSAGE(text.ok(), text.status().ToString());
  CHECK(*ParseClassFile(*text, "it") == Pinned(kFile));
  CHECK(text->ends_with(kFile));
}

TEST_CASE("a file that begins with a byte order mark stays one that can be read") {
  const std::string marked = std::string("\xEF\xBB\xBF") + kFile;
  StatusOr<std::string> text = WithImageDigest(marked, Pinned(marked));
  REQUIRE_MESSAGE(text.ok(), text.status().ToString());
  CHECK(*ParseClassFile(*text, "it") == Pinned(marked));
}

TEST_CASE("what would not be read again as it was is not kept") {
  CHECK(absl::IsInternal(WithImageDigest("\nname =", Pinned(kFile)).status()));
  CHECK(absl::IsInternal(
      WithImageDigest(std::string(kFile) + "max_instances = 3\n", Pinned(kFile)).status()));
}

}  // namespace ctr
