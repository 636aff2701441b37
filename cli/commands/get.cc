#include "cli/arguments.h"
#include "cli/commands/commands.h"
#include "cli/commands/options.h"

namespace ctr::cli {
namespace {

struct GetFlags {
  std::string name;
  std::vector<std::string> variables;
  bool no_start = false;
  bool no_wait = false;
  bool address = false;
};

StatusOr<v1::GetInstanceRequest> RequestOf(const GetFlags& flags, const Context& context) {
  v1::GetInstanceRequest request;
  CTR_ASSIGN_OR_RETURN(*request.mutable_ref(), context.Ref(flags.name));
  CTR_ASSIGN_OR_RETURN(auto variables, ParseVariables(flags.variables, context.environment()));
  request.mutable_env()->insert(variables.begin(), variables.end());
  request.set_no_start(flags.no_start);
  request.set_no_wait(flags.no_wait);
  return request;
}

int Get(const GetFlags& flags, Context& context) {
  StatusOr<v1::GetInstanceRequest> request = RequestOf(flags, context);
  if (!request.ok()) return context.Fail(request.status());
  StatusOr<v1::Instance> instance = context.Call(&Client::Stub::GetInstance, *request);
  if (!instance.ok()) return context.Fail(instance.status());
  if (flags.address && instance->address().empty()) {
    return context.Fail(absl::FailedPreconditionError(
        NameOf(*instance) + " has no address: its class is a job, which declares no port"));
  }
  return context.PrintInstance(*instance,
                               flags.address ? instance->address() : UrlOrName(*instance));
}

}  // namespace

Action DefineGet(CLI::App& app) {
  auto flags = std::make_shared<GetFlags>();
  AddInstance(app, flags->name);
  app.add_flag("--no-start", flags->no_start, "create it at most, start nothing");
  app.add_flag("--no-wait", flags->no_wait, "return without waiting until it is healthy");
  app.add_flag("--address", flags->address, "print its address alone instead of its URL");
  AddEnv(app, flags->variables);
  return [flags](Context& context) { return Get(*flags, context); };
}

}  // namespace ctr::cli
