#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "cli/arguments.h"
#include "cli/commands/commands.h"
#include "cli/commands/options.h"

namespace ctr::cli {
namespace {

// What CLI11 stores for --random without "=N".
constexpr char kAsTheClassSays[] = "class";

struct RouteFlags {
  std::string class_name;
  std::string random;  // "" if not given
};

StatusOr<v1::RouteRequest> RequestOf(const RouteFlags& flags, const Context& context) {
  v1::RouteRequest request;
  request.set_class_(flags.class_name.empty() ? context.settings().class_name : flags.class_name);
  CTR_RETURN_IF_ERROR(CheckUtf8(request.class_(), "the class's name"));
  request.set_random(!flags.random.empty());
  if (flags.random.empty() || flags.random == kAsTheClassSays) return request;
  uint32_t instances = 0;
  if (!absl::SimpleAtoi(flags.random, &instances) || instances == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("--random=", flags.random, " is no count of instances; write --random=3"));
  }
  request.set_instances(instances);
  return request;
}

int Route(const RouteFlags& flags, Context& context) {
  StatusOr<v1::RouteRequest> request = RequestOf(flags, context);
  if (!request.ok()) return context.Fail(request.status());
  StatusOr<v1::Instance> instance = context.Call(&Client::Stub::Route, *request);
  if (!instance.ok()) return context.Fail(instance.status());
  return context.PrintInstance(*instance, UrlOrName(*instance));
}

}  // namespace

Action DefineRoute(CLI::App& app) {
  auto flags = std::make_shared<RouteFlags>();
  app.add_option("CLASS", flags->class_name, "the class; default: as for an ID without a class")
      ->type_name("");
  app.add_flag(std::string("--random{") + kAsTheClassSays + "}", flags->random,
               "at random over instance-0 ... instance-N-1 (--random=N; else as the class says)");
  return [flags](Context& context) { return Route(*flags, context); };
}

}  // namespace ctr::cli
