#include "cli/batch.h"
#include "cli/commands/commands.h"
#include "cli/commands/options.h"

namespace ctr::cli {
namespace {

struct RestartFlags {
  std::vector<std::string> names;
  bool no_wait = false;
};

}  // namespace

Action DefineRestart(CLI::App& app) {
  auto flags = std::make_shared<RestartFlags>();
  AddInstances(app, flags->names);
  AddNoWait(app, flags->no_wait);
  return [flags](Context& context) {
    return ForEachInstance(context, flags->names, [&](Client& client, const v1::InstanceRef& ref) {
      v1::RestartInstanceRequest request;
      *request.mutable_ref() = ref;
      request.set_no_wait(flags->no_wait);
      return client.Call(&Client::Stub::RestartInstance, request);
    });
  };
}

}  // namespace ctr::cli
