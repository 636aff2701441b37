#include "agent/runtime/image_layout.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "agent/base/utf8.h"

namespace ctr {
namespace {

constexpr int kMaxLinks = 8;
constexpr size_t kMaxImages = 256;
constexpr size_t kMaxNames = 256;  // of one image
constexpr size_t kMaxDocumentsBytes = 64 << 20;
constexpr size_t kMaxNamesBytes = 16 << 20;
constexpr size_t kMaxShownPlatforms = 12;

// The one image that is meant when its new name is given.
StatusOr<std::vector<ImagePlan>> Rename(std::vector<ImagePlan> images, const std::string& name) {
  if (images.size() > 1) {
    std::vector<std::string> names;
    for (const ImagePlan& image : images) {
      names.push_back(image.names.empty() ? "one without a name" : image.names.front());
    }
    return MalformedImage(absl::StrCat("it holds ", images.size(), " images, which can't all be ",
                                       name, ": import it without a name (", names.front(), ", ",
                                       names.at(1), images.size() > 2 ? ", …)" : ")"));
  }
  images.front().names = {name};
  return images;
}

}  // namespace

std::string ArchiveContents::FileOf(std::string_view name) const {
  std::string file = CleanArchiveName(name);
  for (int i = 0; i <= kMaxLinks; ++i) {
    if (files.count(file) > 0) return file;
    auto link = links.find(file);
    if (link == links.end()) break;
    file = link->second;
  }
  return "";
}

std::string CleanArchiveName(std::string_view name) {
  std::vector<absl::string_view> parts;
  for (absl::string_view part : absl::StrSplit(absl::string_view(name.data(), name.size()), '/')) {
    if (part == "..") {
      if (!parts.empty()) parts.pop_back();
    } else if (!part.empty() && part != ".") {
      parts.push_back(part);
    }
  }
  return absl::StrJoin(parts, "/");
}

Status MalformedImage(std::string_view message) {
  return Error(absl::StatusCode::kInvalidArgument, code::kBadRequest, Printable(message));
}

StatusOr<std::string_view> FindDocument(const ArchiveContents& contents, std::string_view name,
                                        std::string_view what) {
  std::string file = contents.FileOf(name);
  if (file.empty()) {
    return MalformedImage(absl::StrCat(std::string(what), " is missing from the archive (",
                                       std::string(name), "): make the archive again"));
  }
  auto document = contents.documents.find(file);
  if (document != contents.documents.end()) return document->second;
  bool too_large = contents.files.at(file) > static_cast<int64_t>(kMaxImageDocumentBytes);
  return MalformedImage(absl::StrCat(std::string(what), " (", std::string(name), ") is ",
                                     too_large ? "larger than 4 MiB" : "not JSON"));
}

Status AddName(ImagePlan& image, std::string name) {
  auto& names = image.names;
  if (std::find(names.begin(), names.end(), name) != names.end()) return absl::OkStatus();
  if (names.size() == kMaxNames) {
    return MalformedImage(absl::StrCat("an image in it has more than ", kMaxNames, " names"));
  }
  names.push_back(std::move(name));
  return absl::OkStatus();
}

Status NothingFor(const Platform& platform, const std::set<std::string>& others) {
  const std::string wanted = PlatformName(platform);
  return MalformedImage(absl::StrCat(
      "it holds no image for this host, ", wanted, others.empty() ? "" : ", only for ",
      absl::StrJoin(others, ", "), "; docker save --platform ", wanted, " makes one that does"));
}

void AddPlatform(std::set<std::string>& others, std::string_view os, std::string_view architecture,
                 std::string_view variant) {
  if (others.size() == kMaxShownPlatforms) return;
  std::string name(os);
  for (std::string_view part : {architecture, variant}) {
    if (!part.empty()) name.append("/").append(part);
  }
  others.insert(OnlyPrintable(std::move(name)));
}

Status PlanBounds::Add(const ImagePlan& image) {
  documents_bytes_ += image.manifest.size() + image.config.size();
  for (const std::string& name : image.names) names_bytes_ += name.size();
  for (const LayerPlan& layer : image.layers) names_bytes_ += layer.file.size();
  if (++images_ > kMaxImages) {
    return MalformedImage(absl::StrCat("it has more than ", kMaxImages, " images"));
  }
  if (documents_bytes_ > kMaxDocumentsBytes || names_bytes_ > kMaxNamesBytes) {
    return MalformedImage("its images have more than 64 MiB of configs, or 16 MiB of names");
  }
  return absl::OkStatus();
}

StatusOr<std::vector<ImagePlan>> PlanImport(const ArchiveContents& contents,
                                            const std::string& name, const Platform& platform) {
  bool is_oci = !contents.FileOf("index.json").empty();
  if (!is_oci && contents.FileOf("manifest.json").empty()) {
    return MalformedImage(
        "it is no image: it has neither index.json (OCI layout) nor manifest.json (Docker "
        "archive); make it with `docker save` or `skopeo copy`");
  }
  CTR_ASSIGN_OR_RETURN(std::vector<ImagePlan> images, is_oci
                                                          ? PlanOciLayout(contents, platform)
                                                          : PlanDockerArchive(contents, platform));
  if (!name.empty()) return Rename(std::move(images), name);
  bool any_named = std::any_of(images.begin(), images.end(),
                               [](const ImagePlan& image) { return !image.names.empty(); });
  if (!any_named) {
    return MalformedImage("the image in it has no name: say how to call it, such as demo:latest");
  }
  std::erase_if(images, [](const ImagePlan& image) { return image.names.empty(); });
  return images;
}

}  // namespace ctr
