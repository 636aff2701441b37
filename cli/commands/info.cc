#include "cli/commands/commands.h"
#include "cli/commands/options.h"

namespace ctr::cli {
namespace {

int Info(Context& context) {
  StatusOr<v1::Info> info = context.Call(&Client::Stub::GetInfo, v1::GetInfoRequest());
  if (!info.ok()) return context.Fail(info.status());
  if (context.json()) return context.PrintJson(ToJson(*info));
  return context.PrintText(KeyValues(ToJson(*info)));
}

}  // namespace

Action DefineInfo(CLI::App&) { return Info; }

}  // namespace ctr::cli
