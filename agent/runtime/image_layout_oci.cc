// OCI image layouts: index.json and blobs/, also as `docker save` writes them since version 25.

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "agent/runtime/image_layout.h"
#include "agent/runtime/sha256.h"

namespace ctr {
namespace {

using nlohmann::json;

constexpr int kMaxNesting = 4;  // index in index …

struct Descriptor {
  std::string media_type;
  std::string digest;
  int64_t size = 0;
  std::map<std::string, std::string> annotations;
  std::string os;  // "" if it names no platform
  std::string architecture;
  std::string variant;
};

std::string StringOr(const json& object, const char* name) {
  auto member = object.find(name);
  return member != object.end() && member->is_string() ? member->get<std::string>() : "";
}

StatusOr<Descriptor> ParseDescriptor(const json& object) {
  Descriptor descriptor;
  if (!object.is_object() || !object.contains("size") || !object["size"].is_number_integer()) {
    return MalformedImage("a descriptor in it is malformed: it has no size");
  }
  descriptor.size = object["size"].get<int64_t>();
  descriptor.digest = StringOr(object, "digest");
  descriptor.media_type = StringOr(object, "mediaType");
  if (!IsSha256Digest(descriptor.digest)) {
    return MalformedImage("a descriptor in it is malformed: its digest is not a SHA-256");
  }
  if (auto annotations = object.find("annotations");
      annotations != object.end() && annotations->is_object()) {
    for (const auto& [key, value] : annotations->items()) {
      if (value.is_string()) descriptor.annotations[key] = value.get<std::string>();
    }
  }
  if (auto platform = object.find("platform"); platform != object.end() && platform->is_object()) {
    descriptor.os = StringOr(*platform, "os");
    descriptor.architecture = StringOr(*platform, "architecture");
    descriptor.variant = StringOr(*platform, "variant");
  }
  return descriptor;
}

StatusOr<std::vector<Descriptor>> ParseDescriptors(const json& document, const char* name) {
  std::vector<Descriptor> descriptors;
  auto list = document.find(name);
  if (list == document.end() || !list->is_array()) {
    return MalformedImage(absl::StrCat("a document in it is malformed: it has no \"", name, "\""));
  }
  for (const json& object : *list) {
    CTR_ASSIGN_OR_RETURN(Descriptor descriptor, ParseDescriptor(object));
    descriptors.push_back(std::move(descriptor));
  }
  return descriptors;
}

std::string BlobFile(const std::string& digest) {
  return absl::StrCat("blobs/sha256/", digest.substr(digest.find(':') + 1));
}

struct ArchiveName {
  std::string text;  // "" for none
  bool is_tag = false;
};

// What its annotations call an image.
ArchiveName NameOf(const Descriptor& descriptor) {
  for (const char* key : {"io.containerd.image.name", "org.opencontainers.image.ref.name"}) {
    auto name = descriptor.annotations.find(key);
    if (name == descriptor.annotations.end() || name->second.empty()) continue;
    // The second one may be just a tag: which image's, it does not say.
    const bool is_tag = key != std::string_view("io.containerd.image.name") &&
                        !absl::StrContains(name->second, ':') &&
                        !absl::StrContains(name->second, '/');
    return {is_tag ? name->second : ArchiveImageName(name->second), is_tag};
  }
  return {};
}

class OciPlanner {
 public:
  OciPlanner(const ArchiveContents& contents, const Platform& platform)
      : contents_(contents), platform_(platform) {}

  StatusOr<std::vector<ImagePlan>> Plan() {
    CTR_ASSIGN_OR_RETURN(std::string_view text,
                         FindDocument(contents_, "index.json", "the list of images"));
    CTR_ASSIGN_OR_RETURN(json index, ParseImageDocument(text, "index.json"));
    CTR_ASSIGN_OR_RETURN(auto descriptors, ParseDescriptors(index, "manifests"));
    std::set<std::string> named;
    for (const Descriptor& descriptor : Suitable(std::move(descriptors))) {
      CTR_ASSIGN_OR_RETURN(std::string digest, Visit(descriptor, kMaxNesting));
      if (digest.empty()) continue;
      ArchiveName name = NameOf(descriptor);
      // Of several that have one name, the one that suits best.
      if (name.text.empty() || !named.insert(name.text).second) continue;
      ImagePlan& image = images_.at(digest);
      if (name.is_tag) {
        image.tags.push_back(std::move(name.text));
      } else {
        CTR_RETURN_IF_ERROR(AddName(image, std::move(name.text)));
      }
    }
    if (images_.empty()) {
      return others_.empty() && !lacks_some_ ? MalformedImage("it holds no container image")
                                             : NothingFor(platform_, others_);
    }
    std::vector<ImagePlan> images;
    for (auto& [digest, image] : images_) images.push_back(std::move(image));
    return images;
  }

 private:
  // Those that may lead to an image for our platform, the one that suits best first.
  std::vector<Descriptor> Suitable(std::vector<Descriptor> all) {
    std::multimap<int, Descriptor, std::greater<>> suitable;
    for (Descriptor& descriptor : all) {
      if (IsAttestation(descriptor)) continue;
      const bool says = !descriptor.os.empty() || !descriptor.architecture.empty();
      // One without a platform is taken if nothing better is there.
      std::optional<int> suits = -1;
      if (says) {
        suits = Suits(platform_, descriptor.os, descriptor.architecture, descriptor.variant);
      }
      if (suits) {
        suitable.emplace(*suits, std::move(descriptor));
      } else if (IsHere(descriptor)) {
        AddPlatform(others_, descriptor.os, descriptor.architecture, descriptor.variant);
      } else {
        lacks_some_ = true;
      }
    }
    std::vector<Descriptor> sorted;
    for (auto& [suits, descriptor] : suitable) sorted.push_back(std::move(descriptor));
    return sorted;
  }

  bool IsHere(const Descriptor& descriptor) const {
    return !contents_.FileOf(BlobFile(descriptor.digest)).empty();
  }

  // Finds the image for our platform behind a descriptor and plans it. Returns its manifest's
  // digest, "" if there is none.
  StatusOr<std::string> Visit(const Descriptor& descriptor, int depth) {
    if (auto known = visited_.find(descriptor.digest); known != visited_.end()) {
      return known->second;
    }
    if (depth == 0) return MalformedImage("its indexes are nested too deeply");
    // Docker saves all of an index, but only the images that it has itself.
    if (depth < kMaxNesting && !IsHere(descriptor)) {
      lacks_some_ = true;
      return std::string();
    }
    std::string& found = visited_[descriptor.digest];
    CTR_ASSIGN_OR_RETURN(std::string_view text, FindBlob(descriptor, "a manifest"));
    CTR_ASSIGN_OR_RETURN(json document, ParseImageDocument(text, "a manifest"));
    if (document.contains("manifests")) {
      CTR_ASSIGN_OR_RETURN(auto children, ParseDescriptors(document, "manifests"));
      for (const Descriptor& child : Suitable(std::move(children))) {
        CTR_ASSIGN_OR_RETURN(found, Visit(child, depth - 1));
        if (!found.empty()) return found;
      }
      return found;
    }
    CTR_ASSIGN_OR_RETURN(bool planned, PlanManifest(descriptor, text, document));
    if (planned) found = descriptor.digest;
    return found;
  }

  static bool IsAttestation(const Descriptor& descriptor) {
    auto type = descriptor.annotations.find("vnd.docker.reference.type");
    return type != descriptor.annotations.end() && type->second == "attestation-manifest";
  }

  // The document that a descriptor points to, verified.
  StatusOr<std::string_view> FindBlob(const Descriptor& descriptor, const char* what) {
    CTR_ASSIGN_OR_RETURN(std::string_view text,
                         FindDocument(contents_, BlobFile(descriptor.digest), what));
    if (static_cast<int64_t>(text.size()) != descriptor.size ||
        Sha256Digest(text) != descriptor.digest) {
      return MalformedImage(absl::StrCat(what, " is damaged: ", descriptor.digest,
                                         " has another content; make the archive again"));
    }
    return text;
  }

  // False if it is not a container image, or not for our platform.
  StatusOr<bool> PlanManifest(const Descriptor& descriptor, std::string_view text,
                              const json& document) {
    if (!document.is_object() || !document.contains("config") || !document.contains("layers")) {
      return false;
    }
    CTR_ASSIGN_OR_RETURN(Descriptor config, ParseDescriptor(document["config"]));
    if (!IsConfigMediaType(config.media_type)) return false;
    CTR_ASSIGN_OR_RETURN(auto layers, ParseDescriptors(document, "layers"));
    ImagePlan image;
    image.manifest = std::string(text);
    std::string own_type = StringOr(document, "mediaType");
    image.manifest_media_type =
        ManifestMediaType(own_type.empty() ? descriptor.media_type : own_type);
    CTR_ASSIGN_OR_RETURN(std::string_view config_text, FindBlob(config, "the image's config"));
    image.config = std::string(config_text);
    CTR_ASSIGN_OR_RETURN(image.parsed_config, ParseImageConfig(config_text));
    if (!IsForPlatform(image.parsed_config, platform_)) {
      AddPlatform(others_, image.parsed_config.os, image.parsed_config.architecture, "");
      return false;
    }
    CTR_RETURN_IF_ERROR(PlanLayers(layers, image));
    CTR_RETURN_IF_ERROR(bounds_.Add(image));
    images_.emplace(descriptor.digest, std::move(image));
    return true;
  }

  Status PlanLayers(const std::vector<Descriptor>& layers, ImagePlan& image) {
    const auto& diff_ids = image.parsed_config.diff_ids;
    if (layers.size() != diff_ids.size()) {
      return MalformedImage(absl::StrCat("the manifest names ", layers.size(),
                                         " layers, and the image's config ", diff_ids.size()));
    }
    for (size_t i = 0; i < layers.size(); ++i) {
      const Descriptor& layer = layers[i];
      if (!IsLayerMediaType(layer.media_type)) {
        return MalformedImage(absl::StrCat("it has a layer of the type \"", layer.media_type,
                                           "\", which can't be unpacked"));
      }
      std::string file = contents_.FileOf(BlobFile(layer.digest));
      if (file.empty()) {
        return MalformedImage(absl::StrCat("layer ", layer.digest,
                                           " is missing from the archive: make the archive again"));
      }
      if (contents_.files.at(file) != layer.size) {
        return MalformedImage(absl::StrCat("layer ", layer.digest, " is damaged: it has ",
                                           contents_.files.at(file), " bytes and should have ",
                                           layer.size, "; make the archive again"));
      }
      image.layers.push_back({file, layer.digest, layer.media_type, layer.size, diff_ids[i]});
    }
    return absl::OkStatus();
  }

  const ArchiveContents& contents_;
  const Platform& platform_;
  std::map<std::string, std::string> visited_;  // digest -> digest of the manifest found behind it
  std::set<std::string> others_;                // platforms that were passed over
  bool lacks_some_ = false;                     // a part of an index is not in the archive
  std::map<std::string, ImagePlan> images_;     // by the manifest's digest
  PlanBounds bounds_;
};

}  // namespace

StatusOr<std::vector<ImagePlan>> PlanOciLayout(const ArchiveContents& contents,
                                               const Platform& platform) {
  return OciPlanner(contents, platform).Plan();
}

}  // namespace ctr
