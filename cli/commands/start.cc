#include "cli/arguments.h"
#include "cli/batch.h"
#include "cli/commands/commands.h"
#include "cli/commands/options.h"

namespace ctr::cli {
namespace {

struct StartFlags {
  std::vector<std::string> names;
  std::vector<std::string> variables;
  std::vector<std::string> entrypoint;
  bool no_wait = false;
};

// All of the request but the instance.
StatusOr<v1::StartInstanceRequest> TemplateOf(const StartFlags& flags, const Context& context) {
  v1::StartInstanceRequest request;
  CTR_ASSIGN_OR_RETURN(auto variables, ParseVariables(flags.variables, context.environment()));
  request.mutable_env()->insert(variables.begin(), variables.end());
  for (const std::string& word : flags.entrypoint) {
    CTR_RETURN_IF_ERROR(CheckUtf8(word, "a word of --entrypoint"));
    request.add_entrypoint(word);
  }
  request.set_no_wait(flags.no_wait);
  return request;
}

}  // namespace

Action DefineStart(CLI::App& app) {
  auto flags = std::make_shared<StartFlags>();
  AddInstances(app, flags->names);
  AddEnv(app, flags->variables);
  AddRepeatable(
      app, "--entrypoint", flags->entrypoint,
      "a word of the command to run instead of the class's, kept with the ID; give it once "
      "for each word",
      "WORD");
  AddNoWait(app, flags->no_wait);
  return [flags](Context& context) {
    StatusOr<v1::StartInstanceRequest> common = TemplateOf(*flags, context);
    if (!common.ok()) return context.Fail(common.status());
    return ForEachInstance(context, flags->names, [&](Client& client, const v1::InstanceRef& ref) {
      v1::StartInstanceRequest request = *common;
      *request.mutable_ref() = ref;
      return client.Call(&Client::Stub::StartInstance, request);
    });
  };
}

}  // namespace ctr::cli
