#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
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
  bool explain = false;
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

Json JsonOf(const v1::ExplainRouteResponse& response) {
  Json json;
  json["outcome"] = response.outcome();
  json["candidates"] = Json::array();
  for (const auto& candidate : response.candidates()) {
    json["candidates"].push_back({{"class", candidate.class_()},
                                  {"id", candidate.id()},
                                  {"verdict", candidate.verdict()},
                                  {"latency_ms", candidate.latency_ms()},
                                  {"in_flight", candidate.in_flight()},
                                  {"cost_ms", candidate.cost_ms()}});
  }
  return json;
}

int Explain(const v1::RouteRequest& request, Context& context) {
  StatusOr<v1::ExplainRouteResponse> response = context.Call(&Client::Stub::ExplainRoute, request);
  if (!response.ok()) return context.Fail(response.status());
  if (context.json()) return context.PrintJson(JsonOf(*response));
  Table table({"INSTANCE", "VERDICT", "LATENCY-MS", "IN-FLIGHT", "COST-MS"});
  for (const auto& candidate : response->candidates()) {
    table.Add({{candidate.class_() + "/" + candidate.id()},
               {candidate.verdict()},
               {absl::StrFormat("%.2f", candidate.latency_ms())},
               {absl::StrCat(candidate.in_flight())},
               {absl::StrFormat("%.2f", candidate.cost_ms())}});
  }
  std::string text = response->candidates().empty() ? "" : table.Render(context.style());
  if (response->outcome() == "none_healthy") {
    absl::StrAppend(&text, "none is ready: a request would wait for one\n");
  } else if (response->outcome() == "all_full") {
    absl::StrAppend(&text, "all are full: a request would wait for a place\n");
  }
  return context.PrintText(text);
}

int Route(const RouteFlags& flags, Context& context) {
  StatusOr<v1::RouteRequest> request = RequestOf(flags, context);
  if (!request.ok()) return context.Fail(request.status());
  if (flags.explain) {
    if (!flags.random.empty()) {
      return context.Fail(
          absl::InvalidArgumentError("--explain is of the nearest; leave --random out"));
    }
    return Explain(*request, context);
  }
  StatusOr<v1::Instance> instance = context.Call(&Client::Stub::Route, *request);
  if (!instance.ok()) return context.Fail(instance.status());
  return context.PrintInstance(*instance, UrlOrName(*instance));
}

}  // namespace

Action DefineRoute(CLI::App& app) {
  auto flags = std::make_shared<RouteFlags>();
  AddClass(app, flags->class_name);
  app.add_flag(std::string("--random{") + kAsTheClassSays + "}", flags->random,
               "at random over instance-0 ... instance-N-1 (--random=N; else as the class says)");
  app.add_flag("--explain", flags->explain,
               "show what it would choose now, and why; wakes nothing");
  return [flags](Context& context) { return Route(*flags, context); };
}

}  // namespace ctr::cli
