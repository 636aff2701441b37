#include "cli/commands/commands.h"
#include "cli/commands/options.h"

namespace ctr::cli {
namespace {

int Renew(const std::string& name, Context& context) {
  StatusOr<v1::InstanceRef> ref = context.Ref(name);
  if (!ref.ok()) return context.Fail(ref.status());
  v1::RenewInstanceRequest request;
  *request.mutable_ref() = *std::move(ref);
  StatusOr<v1::Instance> instance = context.Call(&Client::Stub::RenewInstance, request);
  if (!instance.ok()) return context.Fail(instance.status());
  return context.PrintInstance(*instance, NameOf(*instance));
}

}  // namespace

Action DefineRenew(CLI::App& app) {
  auto name = std::make_shared<std::string>();
  AddInstance(app, *name);
  return [name](Context& context) { return Renew(*name, context); };
}

}  // namespace ctr::cli
