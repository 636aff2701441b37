// What a registry serves as a manifest: chosen from for several platforms.
#include "agent/registry/manifest.h"

#include "agent/runtime/sha256.h"
#include "tests/fuzz/fuzz.h"

namespace ctr {
namespace {

void CheckBlob(const BlobDescriptor& blob) {
  CTR_HOLDS(IsSha256Digest(blob.digest));
  CTR_HOLDS(blob.size >= 0);
}

void CheckFor(std::string_view input, const Platform& platform) {
  auto parsed = ParseManifest(input, "application/json", platform);
  if (!parsed.ok()) {
    CTR_HOLDS(absl::IsInvalidArgument(parsed.status()) || absl::IsNotFound(parsed.status()));
    CTR_HOLDS(parsed.status().message().find('\n') == absl::string_view::npos);
    CTR_HOLDS(parsed.status().message().size() < 4096);
    return;
  }
  if (const auto* index = std::get_if<ImageIndex>(&*parsed)) return CheckBlob(index->chosen);
  const auto& manifest = std::get<ImageManifest>(*parsed);
  CheckBlob(manifest.config);
  for (const BlobDescriptor& layer : manifest.layers) CheckBlob(layer);
  CTR_HOLDS(manifest.layers.size() <= 127);
  CTR_HOLDS(manifest.TotalBytes() >= manifest.config.size);
}

}  // namespace

void Fuzz(std::string_view input) {
  CheckFor(input, {"amd64", "", ""});
  CheckFor(input, {"arm", "v7", ""});
  StatusOr<Platform> platform = ParsePlatform(input.substr(0, 100));
  if (platform.ok()) CTR_HOLDS(ParsePlatform(PlatformName(*platform)).ok());
}

}  // namespace ctr
