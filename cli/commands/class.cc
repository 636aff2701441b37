#include "absl/strings/str_cat.h"
#include "cli/arguments.h"
#include "cli/commands/commands.h"
#include "cli/commands/options.h"

namespace ctr::cli {
namespace {

// Far more than a class file needs, and less than gRPC takes in one message.
constexpr size_t kMaxFileBytes = 1 << 20;

const char* ResultName(v1::ApplyClassResponse::Result result) {
  switch (result) {
    case v1::ApplyClassResponse::RESULT_CREATED:
      return "created";
    case v1::ApplyClassResponse::RESULT_CONFIGURED:
      return "configured";
    default:
      return "unchanged";
  }
}

StatusOr<v1::ApplyClassRequest> ApplyRequestOf(const std::string& path, int input) {
  std::string shown = path == "-" ? "<stdin>" : path;
  CTR_RETURN_IF_ERROR(CheckUtf8(shown, "the file's name"));
  CTR_ASSIGN_OR_RETURN(std::string source, ReadText(path, input, kMaxFileBytes));
  CTR_RETURN_IF_ERROR(CheckUtf8(source, shown));
  v1::ApplyClassRequest request;
  request.set_source(std::move(source));
  request.set_file_name(shown);
  return request;
}

int Apply(const std::string& path, Context& context) {
  StatusOr<v1::ApplyClassRequest> request = ApplyRequestOf(path, context.io().input);
  if (!request.ok()) return context.Fail(request.status());
  StatusOr<v1::ApplyClassResponse> response = context.Call(&Client::Stub::ApplyClass, *request);
  if (!response.ok()) return context.Fail(response.status());
  const v1::Class& class_ = response->class_();
  const char* result = ResultName(response->result());
  if (!response->note().empty()) {
    context.io().err << "ctr: class " << class_.name() << ": " << response->note() << "\n";
  }
  if (context.json()) {
    Json json = ToJson(class_);
    json["result"] = result;
    return context.PrintJson(json);
  }
  std::string name = NameOfClass(class_.name());
  if (context.settings().output == Output::kName) return context.PrintLine(name);
  return context.PrintLine(absl::StrCat(name, " ", result));
}

int LsClasses(Context& context) {
  StatusOr<v1::ListClassesResponse> response =
      context.Call(&Client::Stub::ListClasses, v1::ListClassesRequest());
  if (!response.ok()) return context.Fail(response.status());
  if (context.settings().output == Output::kName) {
    std::string lines;
    for (const v1::Class& class_ : response->classes()) lines += NameOfClass(class_.name()) + "\n";
    return context.PrintText(lines);
  }
  if (context.json()) {
    Json array = Json::array();
    for (const v1::Class& class_ : response->classes()) array.push_back(ToJson(class_));
    return context.PrintJsonList(array);
  }
  return context.PrintText(
      ClassTable(response->classes(), std::chrono::system_clock::now(), context.style()));
}

int Show(const std::string& name, Context& context) {
  v1::GetClassRequest request;
  if (Status utf8 = CheckUtf8(name, "the class's name"); !utf8.ok()) return context.Fail(utf8);
  request.set_name(name);
  StatusOr<v1::Class> class_ = context.Call(&Client::Stub::GetClass, request);
  if (!class_.ok()) return context.Fail(class_.status());
  if (context.json()) return context.PrintJson(ToDetailedJson(*class_));
  if (context.settings().output == Output::kName) {
    return context.PrintLine(NameOfClass(class_->name()));
  }
  Json shown = ToDetailedJson(*class_);
  Json settings = shown["settings"];
  shown.erase("settings");
  shown.erase("source");
  if (settings.is_object()) {
    shown.erase("ports");
    // Where the class names none, the one that the name means now.
    if (settings["image_digest"].is_null()) settings.erase("image_digest");
    shown.update(settings);
  }
  return context.PrintText(KeyValues(shown));
}

int RmClass(const std::string& name, bool force, Context& context) {
  v1::RemoveClassRequest request;
  if (Status utf8 = CheckUtf8(name, "the class's name"); !utf8.ok()) return context.Fail(utf8);
  request.set_name(name);
  request.set_force(force);
  StatusOr<v1::RemoveClassResponse> response = context.Call(&Client::Stub::RemoveClass, request);
  if (!response.ok()) return context.Fail(response.status());
  if (context.json()) return context.PrintJson({{"name", name}, {"result", "removed"}});
  bool name_alone = context.settings().output == Output::kName;
  return context.PrintLine(NameOfClass(name) + (name_alone ? "" : " removed"));
}

}  // namespace

Action DefineClassApply(CLI::App& app) {
  auto path = std::make_shared<std::string>();
  app.add_option("-f,--file", *path, "the class file; - for standard input")
      ->required()
      ->type_name("FILE");
  return [path](Context& context) { return Apply(*path, context); };
}

Action DefineClassLs(CLI::App&) { return LsClasses; }

Action DefineClassShow(CLI::App& app) {
  auto name = std::make_shared<std::string>();
  app.add_option("NAME", *name, "the class")->required()->type_name("");
  return [name](Context& context) { return Show(*name, context); };
}

Action DefineClassRm(CLI::App& app) {
  struct Flags {
    std::string name;
    bool force = false;
  };
  auto flags = std::make_shared<Flags>();
  app.add_option("NAME", flags->name, "the class")->required()->type_name("");
  app.add_flag("--force", flags->force, "destroy its instances, too");
  return [flags](Context& context) { return RmClass(flags->name, flags->force, context); };
}

}  // namespace ctr::cli
