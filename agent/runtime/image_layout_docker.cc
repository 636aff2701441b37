// Docker archives: `docker save` before version 25, `skopeo copy … docker-archive:`.

#include <optional>
#include <set>
#include <utility>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "agent/runtime/image_layout.h"
#include "agent/runtime/sha256.h"

namespace ctr {
namespace {

using nlohmann::json;

constexpr char kManifestType[] = "application/vnd.docker.distribution.manifest.v2+json";
constexpr char kConfigType[] = "application/vnd.docker.container.image.v1+json";

struct Entry {
  std::string config;
  std::vector<std::string> tags;
  std::vector<std::string> layers;
};

StatusOr<std::vector<std::string>> Strings(const json& entry, const char* name) {
  std::vector<std::string> strings;
  auto member = entry.find(name);
  if (member == entry.end() || member->is_null()) return strings;
  if (!member->is_array()) return MalformedImage(absl::StrCat("manifest.json: bad ", name));
  for (const json& element : *member) {
    if (!element.is_string()) return MalformedImage(absl::StrCat("manifest.json: bad ", name));
    strings.push_back(element.get<std::string>());
  }
  return strings;
}

StatusOr<Entry> ParseEntry(const json& object) {
  if (!object.is_object() || !object.contains("Config") || !object["Config"].is_string()) {
    return MalformedImage("manifest.json is not that of a Docker archive: an image has no Config");
  }
  Entry entry{object["Config"].get<std::string>(), {}, {}};
  CTR_ASSIGN_OR_RETURN(entry.tags, Strings(object, "RepoTags"));
  CTR_ASSIGN_OR_RETURN(entry.layers, Strings(object, "Layers"));
  return entry;
}

// None if it is for another platform, which is noted.
StatusOr<std::optional<ImagePlan>> PlanEntry(const ArchiveContents& contents, const Entry& entry,
                                             const Platform& platform,
                                             std::set<std::string>& others) {
  CTR_ASSIGN_OR_RETURN(std::string_view config,
                       FindDocument(contents, entry.config, "the image's config"));
  ImagePlan image;
  image.config = std::string(config);
  image.manifest_media_type = kManifestType;
  CTR_ASSIGN_OR_RETURN(image.parsed_config, ParseImageConfig(config));
  const ParsedImageConfig& parsed = image.parsed_config;
  if (!IsForPlatform(parsed, platform)) {
    AddPlatform(others, parsed.os, parsed.architecture, "");
    return std::nullopt;
  }
  if (entry.layers.size() != parsed.diff_ids.size()) {
    return MalformedImage(absl::StrCat("manifest.json names ", entry.layers.size(),
                                       " layers, and the image's config ", parsed.diff_ids.size()));
  }
  for (size_t i = 0; i < entry.layers.size(); ++i) {
    LayerPlan layer;
    layer.file = contents.FileOf(entry.layers[i]);
    layer.diff_id = parsed.diff_ids[i];
    if (layer.file.empty()) {
      return MalformedImage(absl::StrCat("layer ", entry.layers[i],
                                         " is missing from the archive: make the archive again"));
    }
    layer.size = contents.files.at(layer.file);
    image.layers.push_back(std::move(layer));
  }
  for (const std::string& tag : entry.tags) {
    CTR_RETURN_IF_ERROR(AddName(image, ArchiveImageName(tag)));
  }
  return image;
}

}  // namespace

StatusOr<std::vector<ImagePlan>> PlanDockerArchive(const ArchiveContents& contents,
                                                   const Platform& platform) {
  CTR_ASSIGN_OR_RETURN(std::string_view text,
                       FindDocument(contents, "manifest.json", "the list of images"));
  CTR_ASSIGN_OR_RETURN(json entries, ParseImageDocument(text, "manifest.json"));
  if (!entries.is_array() || entries.empty()) {
    return MalformedImage("manifest.json is not that of a Docker archive: it lists no image");
  }
  std::vector<ImagePlan> images;
  std::set<std::string> others;
  PlanBounds bounds;
  for (const json& object : entries) {
    CTR_ASSIGN_OR_RETURN(Entry entry, ParseEntry(object));
    CTR_ASSIGN_OR_RETURN(std::optional<ImagePlan> image,
                         PlanEntry(contents, entry, platform, others));
    if (!image) continue;
    CTR_RETURN_IF_ERROR(bounds.Add(*image));
    images.push_back(*std::move(image));
  }
  if (images.empty()) return NothingFor(platform, others);
  return images;
}

std::string MakeManifest(const ImagePlan& image) {
  json layers = json::array();
  for (const LayerPlan& layer : image.layers) {
    layers.push_back(
        {{"mediaType", layer.media_type}, {"size", layer.size}, {"digest", layer.digest}});
  }
  json manifest = {{"schemaVersion", 2},
                   {"mediaType", kManifestType},
                   {"config",
                    {{"mediaType", kConfigType},
                     {"size", image.config.size()},
                     {"digest", Sha256Digest(image.config)}}},
                   {"layers", std::move(layers)}};
  return manifest.dump();
}

}  // namespace ctr
