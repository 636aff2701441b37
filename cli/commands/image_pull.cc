#include "cli/arguments.h"
#include "cli/commands/commands.h"
#include "cli/commands/options.h"
#include "cli/pull_progress.h"

namespace ctr::cli {
namespace {

struct PullFlags {
  std::string reference;
  std::string platform;
};

// Shows how far it is while it lasts. The last message has what was pulled.
StatusOr<v1::PullImageResponse> Pull(const PullFlags& flags, Context& context) {
  v1::PullImageRequest request;
  CTR_RETURN_IF_ERROR(CheckUtf8(flags.reference, "the image's reference"));
  CTR_RETURN_IF_ERROR(CheckUtf8(flags.platform, "--platform"));
  request.set_reference(flags.reference);
  request.set_platform(flags.platform);
  CTR_ASSIGN_OR_RETURN(Client * client, context.client());
  grpc::ClientContext call;
  client->SetDeadline(call);
  auto reader = client->stub().PullImage(&call, request);
  const Io& io = context.io();
  PullProgressText progress(io.err_is_terminal);
  v1::PullImageResponse response;
  v1::PullImageResponse last;
  while (reader->Read(&response)) {
    if (!response.reference().empty()) last = response;
    io.err << progress.Update(response) << std::flush;
  }
  io.err << progress.End() << std::flush;
  CTR_RETURN_IF_ERROR(client->StatusFrom(reader->Finish(), call));
  return last;
}

int Print(const v1::PullImageResponse& pulled, const Context& context) {
  if (context.json()) {
    return context.PrintJson({{"reference", pulled.reference()}, {"digest", pulled.digest()}});
  }
  return context.PrintLine(pulled.reference());
}

}  // namespace

Action DefineImagePull(CLI::App& app) {
  auto flags = std::make_shared<PullFlags>();
  app.add_option("REFERENCE", flags->reference, "what to pull, as docker writes it: nginx:1.27")
      ->required()
      ->type_name("");
  app.add_option("--platform", flags->platform, "for another machine, like linux/arm64")
      ->type_name("PLATFORM");
  return [flags](Context& context) {
    StatusOr<v1::PullImageResponse> pulled = Pull(*flags, context);
    return pulled.ok() ? Print(*pulled, context) : context.Fail(pulled.status());
  };
}

}  // namespace ctr::cli
