#include "cli/batch.h"
#include "cli/commands/commands.h"
#include "cli/commands/options.h"

namespace ctr::cli {
namespace {

// The agent has forgotten it: what is left to tell is its name.
StatusOr<v1::Instance> Destroy(Client& client, const v1::InstanceRef& ref) {
  v1::DestroyInstanceRequest request;
  *request.mutable_ref() = ref;
  CTR_ASSIGN_OR_RETURN(v1::DestroyInstanceResponse response,
                       client.Call(&Client::Stub::DestroyInstance, request));
  v1::Instance destroyed;
  destroyed.set_class_(response.class_());
  destroyed.set_id(ref.id());
  destroyed.set_state("destroyed");
  return destroyed;
}

}  // namespace

Action DefineDestroy(CLI::App& app) {
  auto names = std::make_shared<std::vector<std::string>>();
  AddInstances(app, *names);
  return [names](Context& context) { return ForEachInstance(context, *names, Destroy); };
}

}  // namespace ctr::cli
