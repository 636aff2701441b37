#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "agent/base/error.h"
#include "agent/runtime/oci_spec.h"
#include "agent/runtime/platform.h"

namespace ctr {

// No manifest, index or config of an image is larger.
inline constexpr size_t kMaxImageDocumentBytes = 4 << 20;

// Parses a manifest, an index or a config out of somebody else's hands: a JSON object or array, of
// bounded size and depth. `what` names it in the error, INVALID_ARGUMENT.
StatusOr<nlohmann::json> ParseImageDocument(std::string_view text, std::string_view what);

// An image configuration, OCI's or Docker's.
struct ParsedImageConfig {
  std::string os;
  std::string architecture;
  std::vector<std::string> diff_ids;  // of the layers, the lowest first
  ImageConfig config;
};

// INVALID_ARGUMENT for what is not one.
StatusOr<ParsedImageConfig> ParseImageConfig(std::string_view text);

// What a manifest may call an image's config, and a layer that can be unpacked.
bool IsConfigMediaType(std::string_view type);
bool IsLayerMediaType(std::string_view type);
// The media type of a manifest, or of an index, that says it is `said`: that, or else OCI's.
std::string ManifestMediaType(std::string_view said);
std::string IndexMediaType(std::string_view said);

// Whether it says that it is for Linux on this architecture, or does not say what for.
bool IsForPlatform(const ParsedImageConfig& config, const Platform& platform);

// The chain ID of every layer, the lowest first: that of the first is its diff ID, each other is
// the digest of "<chain ID below> <diff ID>" (OCI image-spec, "Layer ChainID").
std::vector<std::string> ChainIds(const std::vector<std::string>& diff_ids);

}  // namespace ctr
