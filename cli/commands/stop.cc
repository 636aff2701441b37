#include <optional>

#include "absl/strings/str_cat.h"
#include "agent/base/duration.h"
#include "agent/base/signal_name.h"
#include "cli/batch.h"
#include "cli/commands/commands.h"
#include "cli/commands/options.h"

namespace ctr::cli {
namespace {

struct StopFlags {
  std::vector<std::string> names;
  std::optional<std::string> signal;
  std::optional<std::string> grace;
  bool no_wait = false;
};

// All of the request but the instance.
StatusOr<v1::StopInstanceRequest> TemplateOf(const StopFlags& flags) {
  v1::StopInstanceRequest request;
  if (flags.signal) {
    std::optional<int> signal = ParseSignal(*flags.signal);
    if (!signal) {
      return absl::InvalidArgumentError(absl::StrCat("--signal: \"", *flags.signal,
                                                     "\" is no signal; write it like TERM, SIGTERM "
                                                     "or 15"));
    }
    request.set_signal(*signal);
  }
  if (flags.grace) {
    StatusOr<Duration> grace = ParseDuration(*flags.grace);
    if (!grace.ok()) return Annotate(grace.status(), "--time");
    request.set_grace_ms(std::chrono::ceil<std::chrono::milliseconds>(*grace).count());
  }
  request.set_no_wait(flags.no_wait);
  return request;
}

}  // namespace

Action DefineStop(CLI::App& app) {
  auto flags = std::make_shared<StopFlags>();
  AddInstances(app, flags->names);
  app.add_option("--signal", flags->signal, "instead of the class's stop_signal: TERM, SIGTERM, 15")
      ->type_name("SIGNAL");
  app.add_option("-t,--time", flags->grace,
                 "how long until SIGKILL, instead of the class's stop_grace")
      ->type_name("DURATION");
  AddNoWait(app, flags->no_wait);
  return [flags](Context& context) {
    StatusOr<v1::StopInstanceRequest> common = TemplateOf(*flags);
    if (!common.ok()) return context.Fail(common.status());
    return ForEachInstance(context, flags->names, [&](Client& client, const v1::InstanceRef& ref) {
      v1::StopInstanceRequest request = *common;
      *request.mutable_ref() = ref;
      return client.Call(&Client::Stub::StopInstance, request);
    });
  };
}

}  // namespace ctr::cli
