// The documents of an image archive, a line each: the first is manifest.json if it begins with '[',
// else index.json. The N-th is also the file N and the blob of its digest, which those before it
// name as #N; its size is %N.
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "agent/runtime/image_layout.h"
#include "agent/runtime/sha256.h"
#include "tests/fuzz/fuzz.h"

namespace ctr {
namespace {

constexpr size_t kMaxDocuments = 8;

ArchiveContents ContentsOf(std::string_view input) {
  std::vector<std::string> documents =
      absl::StrSplit(absl::string_view(input.data(), input.size()), absl::MaxSplits('\n', 7));
  std::vector<std::pair<std::string, std::string>> names;  // what stands for what
  ArchiveContents contents;
  const auto add = [&](const std::string& file, const std::string& document) {
    contents.files[file] = static_cast<int64_t>(document.size());
    if (document.starts_with('{') || document.starts_with('[')) contents.documents[file] = document;
  };
  for (size_t i = documents.size(); i-- > 0;) {
    std::string& document = documents[i];
    absl::StrReplaceAll(names, &document);
    const std::string digest = Sha256Digest(document);
    names.emplace_back(absl::StrCat("#", i), digest);
    names.emplace_back(absl::StrCat("%", i), absl::StrCat(document.size()));
    add(absl::StrCat(i), document);
    add("blobs/sha256/" + digest.substr(7), document);
  }
  static_assert(kMaxDocuments <= 10, "a digit each");
  add(documents[0].starts_with('[') ? "manifest.json" : "index.json", documents[0]);
  return contents;
}

void CheckPlans(const StatusOr<std::vector<ImagePlan>>& images, const ArchiveContents& contents) {
  if (!images.ok()) {
    CTR_HOLDS(absl::IsInvalidArgument(images.status()));
    CTR_HOLDS(images.status().message().find('\n') == absl::string_view::npos);
    return;
  }
  CTR_HOLDS(!images->empty());
  for (const ImagePlan& image : *images) {
    CTR_HOLDS(!image.names.empty());
    CTR_HOLDS(image.layers.size() == image.parsed_config.diff_ids.size());
    for (const LayerPlan& layer : image.layers) {
      CTR_HOLDS(contents.files.at(layer.file) == layer.size);
      CTR_HOLDS(IsSha256Digest(layer.diff_id));
      CTR_HOLDS(layer.digest.empty() || IsSha256Digest(layer.digest));
    }
    CTR_HOLDS(ChainIds(image.parsed_config.diff_ids).size() == image.layers.size());
    if (image.manifest.empty()) CTR_HOLDS(ParseImageDocument(MakeManifest(image), "it").ok());
  }
}

}  // namespace

void Fuzz(std::string_view input) {
  const Platform platform{"amd64", "", "SCMP_ARCH_X86_64"};
  const ArchiveContents contents = ContentsOf(input);
  CheckPlans(PlanImport(contents, "", platform), contents);
  CheckPlans(PlanImport(contents, "docker.io/library/demo:latest", platform), contents);
  CheckPlans(PlanImport(contents, "docker.io/library/demo", platform), contents);
  const std::string name = CleanArchiveName(input);
  CTR_HOLDS(CleanArchiveName(name) == name && !name.starts_with('/'));
  CTR_HOLDS(absl::StrCat("/", name, "/").find("/../") == std::string::npos);
}

}  // namespace ctr
