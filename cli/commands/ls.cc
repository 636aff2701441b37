#include "cli/commands/commands.h"
#include "cli/commands/options.h"

namespace ctr::cli {
namespace {

struct LsFlags {
  bool all = false;
  bool quiet = false;
};

int Ls(const LsFlags& flags, Context& context) {
  v1::ListInstancesRequest request;
  request.set_class_(context.settings().class_name);
  request.set_all(flags.all);
  StatusOr<v1::ListInstancesResponse> response =
      context.Call(&Client::Stub::ListInstances, request);
  if (!response.ok()) return context.Fail(response.status());

  if (flags.quiet || context.settings().output == Output::kName) {
    std::string lines;
    for (const v1::Instance& instance : response->instances()) lines += NameOf(instance) + "\n";
    return context.PrintText(lines);
  }
  if (context.json()) {
    Json array = Json::array();
    for (const v1::Instance& instance : response->instances()) array.push_back(ToJson(instance));
    return context.PrintJsonList(array);
  }
  return context.PrintText(
      InstanceTable(response->instances(), std::chrono::system_clock::now(), context.style()));
}

}  // namespace

Action DefineLs(CLI::App& app) {
  auto flags = std::make_shared<LsFlags>();
  app.add_flag("-a,--all", flags->all, "the stopped, too");
  app.add_flag("-q,--quiet", flags->quiet, "print class/id alone");
  return [flags](Context& context) { return Ls(*flags, context); };
}

}  // namespace ctr::cli
