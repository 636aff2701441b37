#include "cli/commands/commands.h"
#include "cli/commands/options.h"

namespace ctr::cli {
namespace {

int Inspect(const std::string& name, Context& context) {
  StatusOr<v1::InstanceRef> ref = context.Ref(name);
  if (!ref.ok()) return context.Fail(ref.status());
  v1::InspectInstanceRequest request;
  *request.mutable_ref() = *std::move(ref);
  StatusOr<v1::InspectInstanceResponse> response =
      context.Call(&Client::Stub::InspectInstance, request);
  if (!response.ok()) return context.Fail(response.status());
  if (context.settings().output == Output::kName) {
    return context.PrintLine(NameOf(response->instance()));
  }
  return context.PrintJson(ToJson(*response));
}

}  // namespace

Action DefineInspect(CLI::App& app) {
  auto name = std::make_shared<std::string>();
  AddInstance(app, *name);
  return [name](Context& context) { return Inspect(*name, context); };
}

}  // namespace ctr::cli
