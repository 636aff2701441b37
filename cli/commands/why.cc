#include <algorithm>

#include "absl/strings/str_cat.h"
#include "cli/commands/commands.h"
#include "cli/commands/options.h"
#include "cli/event_text.h"

namespace ctr::cli {
namespace {

// Events that are told beside the sentences; -o json has more.
constexpr int kShown = 10;

std::string TextOf(const v1::ExplainInstanceResponse& response, Style style) {
  std::string text;
  for (const std::string& sentence : response.sentences()) {
    absl::StrAppend(&text, Printable(sentence), "\n");
  }
  if (response.events().empty()) return text;
  EventLines lines(style);
  absl::StrAppend(&text, "\nWhat led there:\n", lines.Header());
  for (int i = std::max(response.events_size() - kShown, 0); i < response.events_size(); ++i) {
    text += lines.Line(response.events(i));
  }
  return text;
}

Json JsonOf(const v1::ExplainInstanceResponse& response) {
  Json json = ToJson(response.instance());
  json["sentences"] = Json::array();
  for (const std::string& sentence : response.sentences()) json["sentences"].push_back(sentence);
  json["events"] = Json::array();
  for (const v1::Event& event : response.events()) json["events"].push_back(ToJson(event));
  return json;
}

int Why(const std::string& name, Context& context) {
  StatusOr<v1::InstanceRef> ref = context.Ref(name);
  if (!ref.ok()) return context.Fail(ref.status());
  v1::ExplainInstanceRequest request;
  *request.mutable_ref() = *std::move(ref);
  StatusOr<v1::ExplainInstanceResponse> response =
      context.Call(&Client::Stub::ExplainInstance, request);
  if (!response.ok()) return context.Fail(response.status());
  if (context.json()) return context.PrintJson(JsonOf(*response));
  if (context.settings().output == Output::kName) {
    return context.PrintLine(NameOf(response->instance()));
  }
  return context.PrintText(TextOf(*response, context.style()));
}

}  // namespace

Action DefineWhy(CLI::App& app) {
  auto name = std::make_shared<std::string>();
  AddInstance(app, *name);
  return [name](Context& context) { return Why(*name, context); };
}

}  // namespace ctr::cli
