#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "agent/base/error.h"
#include "agent/runtime/platform.h"

namespace ctr {

// What a blob or a manifest is fetched by. Out of somebody else's hands, but well-formed: a SHA-256
// and a size that is not negative.
struct BlobDescriptor {
  std::string media_type;
  std::string digest;
  int64_t size = 0;
};

// An image's manifest, OCI's or Docker's.
struct ImageManifest {
  std::string media_type;
  BlobDescriptor config;
  std::vector<BlobDescriptor> layers;  // the lowest first

  // Config and layers, each digest once.
  int64_t TotalBytes() const;
};

// An index, and what it has for the wanted platform: a manifest, or another index.
struct ImageIndex {
  std::string media_type;
  BlobDescriptor chosen;
};

// The Accept field of a request for a manifest.
extern const char kManifestTypes[];
// How deep indexes may be nested.
inline constexpr int kMaxIndexDepth = 4;

// Reads what a registry serves as a manifest and chooses by platform, the nearest variant first.
// `content_type` may be "". INVALID_ARGUMENT for what is no container image or too much; NOT_FOUND
// (unknown_image) that lists the platforms there are.
StatusOr<std::variant<ImageManifest, ImageIndex>> ParseManifest(std::string_view text,
                                                                std::string_view content_type,
                                                                const Platform& platform);

}  // namespace ctr
