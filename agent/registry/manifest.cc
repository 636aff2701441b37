#include "agent/registry/manifest.h"

#include <algorithm>
#include <optional>
#include <set>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "agent/runtime/image_config.h"
#include "agent/runtime/image_layout.h"
#include "agent/runtime/sha256.h"

namespace ctr {
namespace {

using nlohmann::json;

// As many as an image may have; a config names each, too.
constexpr size_t kMaxLayers = 127;
constexpr size_t kMaxShownPlatforms = 12;
constexpr int64_t kMaxBlobBytes = int64_t{1} << 40;

std::string StringOr(const json& object, const char* name) {
  auto member = object.find(name);
  return member != object.end() && member->is_string() ? member->get<std::string>() : "";
}

StatusOr<BlobDescriptor> ParseDescriptor(const json& object, const char* what) {
  BlobDescriptor descriptor;
  if (!object.is_object()) return MalformedImage(absl::StrCat(what, " is no JSON object"));
  descriptor.media_type = StringOr(object, "mediaType");
  descriptor.digest = StringOr(object, "digest");
  if (!IsSha256Digest(descriptor.digest)) {
    return MalformedImage(absl::StrCat(what, " has no SHA-256 digest"));
  }
  auto size = object.find("size");
  const bool is_size =
      size != object.end() && size->is_number_integer() &&
      (!size->is_number_unsigned() || size->get<uint64_t>() <= uint64_t{kMaxBlobBytes}) &&
      size->get<int64_t>() >= 0 && size->get<int64_t>() <= kMaxBlobBytes;
  if (!is_size) return MalformedImage(absl::StrCat(what, " has no possible size"));
  descriptor.size = size->get<int64_t>();
  return descriptor;
}

bool IsAttestation(const json& entry) {
  auto annotations = entry.find("annotations");
  return annotations != entry.end() && annotations->is_object() &&
         StringOr(*annotations, "vnd.docker.reference.type") == "attestation-manifest";
}

Status NoPlatform(const Platform& platform, const std::set<std::string>& there_are) {
  std::vector<std::string> shown(there_are.begin(), there_are.end());
  const bool cut = shown.size() > kMaxShownPlatforms;
  if (cut) shown.resize(kMaxShownPlatforms);
  return Error(absl::StatusCode::kNotFound, code::kUnknownImage,
               absl::StrCat("it has nothing for ", PlatformName(platform),
                            shown.empty() ? "" : ", only for ", absl::StrJoin(shown, ", "),
                            cut ? ", …" : ""));
}

StatusOr<ImageIndex> ParseIndex(const json& document, std::string media_type,
                                const Platform& platform) {
  const json& entries = document["manifests"];
  if (!entries.is_array()) return MalformedImage("its index lists no manifests");
  ImageIndex index;
  index.media_type = std::move(media_type);
  int best = -1;
  std::set<std::string> there_are;
  for (const json& entry : entries) {
    CTR_ASSIGN_OR_RETURN(BlobDescriptor descriptor,
                         ParseDescriptor(entry, "an entry of its index"));
    if (IsAttestation(entry)) continue;
    auto named = entry.find("platform");
    int suits = 0;  // one without a platform is taken if nothing better is there
    if (named != entry.end() && named->is_object()) {
      const std::string os = StringOr(*named, "os");
      const std::string architecture = StringOr(*named, "architecture");
      const std::string variant = StringOr(*named, "variant");
      if (there_are.size() <= kMaxShownPlatforms) {
        there_are.insert(OnlyPrintable(
            absl::StrCat(os, "/", architecture, variant.empty() ? "" : "/", variant)));
      }
      const std::optional<int> found = Suits(platform, os, architecture, variant);
      if (!found) continue;
      suits = *found + 1;
    }
    if (suits <= best) continue;
    best = suits;
    index.chosen = std::move(descriptor);
  }
  if (best < 0) return NoPlatform(platform, there_are);
  if (index.chosen.size > static_cast<int64_t>(kMaxImageDocumentBytes)) {
    return MalformedImage("a manifest of its index is larger than 4 MiB");
  }
  return index;
}

StatusOr<BlobDescriptor> ParseLayer(const json& object) {
  CTR_ASSIGN_OR_RETURN(BlobDescriptor layer, ParseDescriptor(object, "a layer"));
  auto urls = object.find("urls");
  if (urls != object.end() && !(urls->is_array() && urls->empty()) && !urls->is_null()) {
    return MalformedImage(
        absl::StrCat("layer ", layer.digest,
                     " is a foreign layer, which lies at some other address: that is not fetched; "
                     "push the image with all its layers"));
  }
  if (!IsLayerMediaType(layer.media_type)) {
    return MalformedImage(absl::StrCat("layer ", layer.digest, " is of the type \"",
                                       OnlyPrintable(layer.media_type),
                                       "\", which can't be unpacked"));
  }
  return layer;
}

StatusOr<ImageManifest> ParseImage(const json& document, std::string media_type) {
  ImageManifest manifest;
  manifest.media_type = std::move(media_type);
  CTR_ASSIGN_OR_RETURN(manifest.config, ParseDescriptor(document["config"], "its config"));
  if (!IsConfigMediaType(manifest.config.media_type)) {
    return MalformedImage(absl::StrCat("it is no container image: its config is of the type \"",
                                       OnlyPrintable(manifest.config.media_type), "\""));
  }
  if (manifest.config.size > static_cast<int64_t>(kMaxImageDocumentBytes)) {
    return MalformedImage("its config is larger than 4 MiB");
  }
  const json& layers = document["layers"];
  if (!layers.is_array()) return MalformedImage("its manifest lists no layers");
  if (layers.size() > kMaxLayers) {
    return MalformedImage(
        absl::StrCat("it has ", layers.size(), " layers, more than ", kMaxLayers));
  }
  for (const json& object : layers) {
    CTR_ASSIGN_OR_RETURN(BlobDescriptor layer, ParseLayer(object));
    manifest.layers.push_back(std::move(layer));
  }
  return manifest;
}

}  // namespace

const char kManifestTypes[] =
    "application/vnd.oci.image.index.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.v2+json";

int64_t ImageManifest::TotalBytes() const {
  std::set<std::string> counted = {config.digest};
  int64_t total = config.size;
  for (const BlobDescriptor& layer : layers) {
    if (counted.insert(layer.digest).second) total += layer.size;
  }
  return total;
}

StatusOr<std::variant<ImageManifest, ImageIndex>> ParseManifest(std::string_view text,
                                                                std::string_view content_type,
                                                                const Platform& platform) {
  CTR_ASSIGN_OR_RETURN(json document, ParseImageDocument(text, "its manifest"));
  if (!document.is_object()) return MalformedImage("its manifest is no JSON object");
  std::string type = StringOr(document, "mediaType");
  if (type.empty()) type = std::string(content_type.substr(0, content_type.find(';')));
  const bool has_index = document.contains("manifests");
  const bool has_image = document.contains("config") && document.contains("layers");
  // One document that could be read as either is a trap.
  if (has_index && document.contains("layers")) {
    return MalformedImage("its manifest claims to be an index, too");
  }
  if (has_index) {
    CTR_ASSIGN_OR_RETURN(ImageIndex index, ParseIndex(document, IndexMediaType(type), platform));
    return index;
  }
  if (!has_image) {
    const bool is_old = document.contains("fsLayers");
    return MalformedImage(is_old ? "its manifest is of docker's schema 1, which is no longer read; "
                                   "push it again with a newer docker"
                                 : "its manifest is not that of a container image");
  }
  CTR_ASSIGN_OR_RETURN(ImageManifest manifest, ParseImage(document, ManifestMediaType(type)));
  return manifest;
}

}  // namespace ctr
