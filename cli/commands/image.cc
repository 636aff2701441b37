#include "agent/base/size_text.h"
#include "cli/arguments.h"
#include "cli/commands/commands.h"
#include "cli/commands/options.h"

namespace ctr::cli {
namespace {

int LsImages(Context& context) {
  StatusOr<v1::ListImagesResponse> response =
      context.Call(&Client::Stub::ListImages, v1::ListImagesRequest());
  if (!response.ok()) return context.Fail(response.status());
  if (context.settings().output == Output::kName) {
    std::string lines;
    for (const v1::Image& image : response->images()) lines += image.reference() + "\n";
    return context.PrintText(lines);
  }
  if (context.json()) {
    Json array = Json::array();
    for (const v1::Image& image : response->images()) array.push_back(ToJson(image));
    return context.PrintJsonList(array);
  }
  return context.PrintText(
      ImageTable(response->images(), std::chrono::system_clock::now(), context.style()));
}

int RmImage(const std::string& reference, Context& context) {
  v1::RemoveImageRequest request;
  Status utf8 = CheckUtf8(reference, "the image's reference");
  if (!utf8.ok()) return context.Fail(utf8);
  request.set_reference(reference);
  StatusOr<v1::RemoveImageResponse> response = context.Call(&Client::Stub::RemoveImage, request);
  if (!response.ok()) return context.Fail(response.status());
  if (context.json()) {
    return context.PrintJson({{"reference", reference}, {"result", "removed"}});
  }
  return context.PrintLine(reference);
}

int Prune(Context& context) {
  StatusOr<v1::PruneImagesResponse> response =
      context.Call(&Client::Stub::PruneImages, v1::PruneImagesRequest());
  if (!response.ok()) return context.Fail(response.status());
  if (context.json()) {
    Json array = Json::array();
    for (const std::string& reference : response->references()) {
      array.push_back(Json{{"reference", reference}, {"result", "removed"}});
    }
    return context.PrintJsonList(array);
  }
  for (const std::string& reference : response->references()) context.PrintLine(reference);
  if (context.settings().output == Output::kTable) {
    context.io().err << "ctr: " << FormatSize(response->freed_bytes()) << " freed\n";
  }
  return 0;
}

}  // namespace

Action DefineImagePrune(CLI::App&) { return Prune; }

Action DefineImageLs(CLI::App&) { return LsImages; }

Action DefineImageRm(CLI::App& app) {
  auto reference = std::make_shared<std::string>();
  app.add_option("IMAGE", *reference, "its reference, like demo:latest")->required()->type_name("");
  return [reference](Context& context) { return RmImage(*reference, context); };
}

}  // namespace ctr::cli
