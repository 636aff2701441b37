#include <signal.h>

#include <atomic>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cli/arguments.h"
#include "cli/commands/commands.h"
#include "cli/commands/options.h"
#include "cli/log_output.h"
#include "cli/signal_relay.h"

namespace ctr::cli {
namespace {

struct RunFlags {
  std::string name;
  std::vector<std::string> variables;
  std::vector<std::string> command;
};

using RunStream = grpc::ClientReaderWriter<v1::RunInstanceRequest, v1::RunInstanceResponse>;

StatusOr<v1::RunInstanceRequest> RequestOf(const RunFlags& flags, const Context& context) {
  v1::RunInstanceRequest request;
  CTR_ASSIGN_OR_RETURN(*request.mutable_ref(), context.Ref(flags.name));
  CTR_ASSIGN_OR_RETURN(auto variables, ParseVariables(flags.variables, context.environment()));
  request.mutable_env()->insert(variables.begin(), variables.end());
  for (const std::string& word : flags.command) {
    CTR_RETURN_IF_ERROR(CheckUtf8(word, "a word of the command"));
    request.add_command(word);
  }
  return request;
}

// Prints what comes, until the last message or until `printed` is an error. Returns the job's exit
// status.
StatusOr<int> Follow(RunStream& stream, const std::string& name, const Context& context,
                     Status& printed) {
  LogOutput output(context.io(), LogForm::kPlain);
  v1::RunInstanceResponse message;
  while (printed.ok() && stream.Read(&message)) {
    printed = output.Print(message.records());
    if (!message.has_exit_code()) continue;
    if (message.destroyed()) context.io().err << "ctr: " << name << " was destroyed\n";
    return message.exit_code();
  }
  return absl::AbortedError("the agent did not say how it ended");
}

StatusOr<int> RunJob(const RunFlags& flags, Context& context) {
  CTR_ASSIGN_OR_RETURN(v1::RunInstanceRequest request, RequestOf(flags, context));
  grpc::ClientContext call;
  std::atomic<RunStream*> stream = nullptr;
  std::atomic<bool> left = false;
  int interrupts = 0;
  // Before gRPC's threads. What comes before there is a stream ends the wait for one.
  std::optional<SignalRelay> relay(std::in_place, {SIGINT, SIGTERM}, [&](int signal) {
    RunStream* open = stream;
    if (open == nullptr || (signal == SIGINT && ++interrupts > 1)) {
      left = true;
      call.TryCancel();
      return;
    }
    v1::RunInstanceRequest message;
    message.set_signal(signal);
    open->Write(message);
  });
  CTR_ASSIGN_OR_RETURN(Client * client, context.client());
  client->SetDeadline(call);
  auto opened = client->stub().RunInstance(&call);
  if (opened->Write(request)) stream = opened.get();
  Status output;  // whether it could be printed
  StatusOr<int> exit_status = Follow(*opened, flags.name, context, output);
  relay.reset();
  const bool ended = exit_status.ok();
  if (!output.ok()) call.TryCancel();
  opened->WritesDone();
  grpc::Status finished = opened->Finish();
  CTR_RETURN_IF_ERROR(output);
  if (left) {
    return absl::CancelledError(
        absl::StrCat("left ", flags.name, ", which runs on; stop it with: ctr stop ", flags.name));
  }
  if (!ended && !finished.ok()) {
    Status failed = client->StatusFrom(finished, call);
    if (ErrorCodeOf(failed) != "agent_unreachable") return failed;
    return Error(failed.code(), "agent_unreachable",
                 absl::StrCat(std::string(failed.message()), "; if ", flags.name,
                              " was started it runs on: ctr logs -f ", flags.name));
  }
  return exit_status;
}

}  // namespace

Action DefineRun(CLI::App& app) {
  auto flags = std::make_shared<RunFlags>();
  AddInstance(app, flags->name);
  AddEnv(app, flags->variables);
  app.add_option("CMD", flags->command,
                 "after --: replaces the image's command, not its entrypoint; kept with the ID")
      ->type_name("");
  return [flags](Context& context) {
    StatusOr<int> exit_status = RunJob(*flags, context);
    if (exit_status.ok()) return *exit_status;
    const int failed = context.Fail(exit_status.status());
    const std::string code = ErrorCodeOf(exit_status.status());
    if (code == code::kCommandNotFound) return 127;
    if (code == code::kCommandNotExecutable) return 126;
    return absl::IsCancelled(exit_status.status()) ? 128 + SIGINT : failed;
  };
}

}  // namespace ctr::cli
