#include "agent/runtime/image_layout.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "agent/base/utf8.h"
#include "agent/model/reference.h"

namespace ctr {
namespace {

constexpr int kMaxLinks = 8;
constexpr size_t kMaxImages = 256;
constexpr size_t kMaxNames = 256;  // of one image
constexpr size_t kMaxDocumentsBytes = 64 << 20;
constexpr size_t kMaxNamesBytes = 16 << 20;
constexpr size_t kMaxShownPlatforms = 12;

using Images = std::vector<ImagePlan>;
constexpr size_t kMaxShownBytes = 200;  // of each

// The first two of somebody else's names, in parentheses.
std::string Examples(const std::vector<std::string>& names) {
  std::string shown;
  for (size_t i = 0; i < names.size() && i < 2; ++i) {
    absl::StrAppend(&shown, i == 0 ? "(" : ", ", names[i].substr(0, kMaxShownBytes));
  }
  return shown + (names.size() > 2 ? ", …)" : ")");
}

std::vector<std::string> All(const Images& images, std::vector<std::string> ImagePlan::* member) {
  std::vector<std::string> all;
  for (const ImagePlan& image : images) {
    all.insert(all.end(), (image.*member).begin(), (image.*member).end());
  }
  std::sort(all.begin(), all.end());  // the images come by digest, which tells a reader nothing
  return all;
}

// Each image keeps its tags, and gets to know of what they are.
StatusOr<Images> NameByTags(Images images, const std::string& repository) {
  for (ImagePlan& image : images) {
    for (const std::string& tag : image.tags) {
      CTR_ASSIGN_OR_RETURN(std::string name,
                           NormalizeReference(absl::StrCat(repository, ":", tag)));
      CTR_RETURN_IF_ERROR(AddName(image, std::move(name)));
    }
  }
  return images;
}

StatusOr<Images> Rename(Images images, const std::string& name) {
  const std::vector<std::string> names = All(images, &ImagePlan::names);
  const std::vector<std::string> tags = All(images, &ImagePlan::tags);
  const bool by_tags = names.empty() && tags.size() > 1;
  if (by_tags && !SaysWhich(name)) return NameByTags(std::move(images), name);
  if (images.size() == 1) {
    images.front().names = {SaysWhich(name) ? name : absl::StrCat(name, ":latest")};
    return images;
  }
  const std::string what =
      absl::StrCat("it holds ", images.size(), " images, which can't all be ", name);
  if (by_tags) {
    return MalformedImage(
        absl::StrCat(what, ": give a name without a tag, and each keeps its own ", Examples(tags)));
  }
  return MalformedImage(names.empty()
                            ? absl::StrCat(what, ": make an archive of each")
                            : absl::StrCat(what, ": import it without --name ", Examples(names)));
}

Status Nameless(const Images& images) {
  const std::vector<std::string> tags = All(images, &ImagePlan::tags);
  if (tags.size() > 1) {
    return MalformedImage(absl::StrCat("the images in it are named by tags alone ", Examples(tags),
                                       ": say of what, such as --name demo"));
  }
  if (tags.size() == 1) {
    return MalformedImage(absl::StrCat("the image in it is named by a tag alone ", Examples(tags),
                                       ": say of what, such as --name demo:latest"));
  }
  return MalformedImage(
      images.size() == 1
          ? "the image in it has no name: say how to call it, such as --name demo:latest"
          : "the images in it have no names: make an archive of each, and say how to call it, such "
            "as --name demo:latest");
}

StatusOr<Images> KeepNames(Images images) {
  const std::vector<std::string> names = All(images, &ImagePlan::names);
  if (names.empty()) return Nameless(images);
  std::erase_if(images, [](const ImagePlan& image) { return image.names.empty(); });
  for (const std::string& name : names) {
    const Status good = NormalizeReference(name).status();
    if (good.ok()) continue;
    return MalformedImage(absl::StrCat(
        std::string(good.message()),
        images.size() == 1 ? "; call it otherwise: --name demo:latest"
                           : "; name it otherwise before it is saved, or save it alone"));
  }
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

std::string ArchiveImageName(std::string_view name) {
  StatusOr<std::string> normalized = NormalizeReference(name);
  return normalized.ok() ? *std::move(normalized) : std::string(name);
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
  CTR_ASSIGN_OR_RETURN(Images images, is_oci ? PlanOciLayout(contents, platform)
                                             : PlanDockerArchive(contents, platform));
  // What has no name at all is passed over beside what has one.
  const auto is_nameless = [](const ImagePlan& image) {
    return image.names.empty() && image.tags.empty();
  };
  if (!std::all_of(images.begin(), images.end(), is_nameless)) std::erase_if(images, is_nameless);
  return name.empty() ? KeepNames(std::move(images)) : Rename(std::move(images), name);
}

}  // namespace ctr
