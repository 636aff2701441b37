#include "cli/commands/commands.h"
#include "cli/commands/options.h"

namespace ctr::cli {
namespace {

// Our own version is told in any case; an agent that does not answer is an error besides, as with
// docker, and in JSON a key of the same object.
int Version(Context& context) {
  StatusOr<v1::Info> info = context.Call(&Client::Stub::GetInfo, v1::GetInfoRequest());
  Json json = {{"client", CTR_VERSION}, {"agent", info.ok() ? Json(info->version()) : Json()}};
  if (context.json()) {
    if (!info.ok()) json.update(ToJson(info.status()));
    context.PrintJson(json);
    return ExitStatusOf(info.status());
  }
  if (!info.ok()) json.erase("agent");
  context.PrintText(KeyValues(json));
  return info.ok() ? 0 : context.Fail(info.status());
}

}  // namespace

Action DefineVersion(CLI::App&) { return Version; }

}  // namespace ctr::cli
