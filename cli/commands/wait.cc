#include "cli/arguments.h"
#include "cli/commands/commands.h"
#include "cli/commands/options.h"

namespace ctr::cli {
namespace {

struct WaitFlags {
  std::string name;
  std::string state = "stopped";
};

StatusOr<v1::WaitInstanceRequest> RequestOf(const WaitFlags& flags, const Context& context) {
  v1::WaitInstanceRequest request;
  CTR_ASSIGN_OR_RETURN(*request.mutable_ref(), context.Ref(flags.name));
  CTR_RETURN_IF_ERROR(CheckUtf8(flags.state, "--for"));
  request.set_state(flags.state);
  return request;
}

int Wait(const WaitFlags& flags, Context& context) {
  StatusOr<v1::WaitInstanceRequest> request = RequestOf(flags, context);
  if (!request.ok()) return context.Fail(request.status());
  StatusOr<v1::Instance> instance = context.Call(&Client::Stub::WaitInstance, *request);
  if (!instance.ok()) return context.Fail(instance.status());
  bool exit_code = flags.state == "stopped" && instance->has_exit_code();
  return context.PrintInstance(*instance, exit_code ? std::to_string(instance->exit_code()) : "");
}

}  // namespace

Action DefineWait(CLI::App& app) {
  auto flags = std::make_shared<WaitFlags>();
  AddInstance(app, flags->name);
  app.add_option("--for", flags->state,
                 "stopped (the default; prints the exit code), starting, running, healthy, frozen, "
                 "stopping or destroyed")
      ->type_name("STATE");
  return [flags](Context& context) { return Wait(*flags, context); };
}

}  // namespace ctr::cli
