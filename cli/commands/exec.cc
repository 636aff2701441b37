#include <signal.h>
#include <unistd.h>

#include <optional>

#include "absl/strings/str_cat.h"
#include "cli/arguments.h"
#include "cli/commands/commands.h"
#include "cli/commands/options.h"
#include "cli/exec_sender.h"

namespace ctr::cli {
namespace {

// As docker's, env's and timeout's.
constexpr int kOurFailure = 125;
constexpr int kNotExecutable = 126;
constexpr int kNotFound = 127;
constexpr int kTimedOut = 124;

struct ExecFlags {
  std::string name;
  std::vector<std::string> variables;
  std::string working_dir;
  bool interactive = false;
  bool terminal = false;
};

StatusOr<v1::ExecRequest> RequestOf(const ExecFlags& flags, std::vector<std::string> command,
                                    const Context& context) {
  v1::ExecRequest request;
  v1::ExecStart& start = *request.mutable_start();
  CTR_ASSIGN_OR_RETURN(*start.mutable_ref(), context.Ref(flags.name));
  if (command.empty()) {
    return absl::InvalidArgumentError(
        "a command is missing; write: ctr exec ID -- COMMAND [ARGUMENT...]");
  }
  for (const std::string& word : command) {
    CTR_RETURN_IF_ERROR(CheckUtf8(word, "a word of the command"));
    start.add_command(word);
  }
  CTR_ASSIGN_OR_RETURN(auto variables, ParseVariables(flags.variables, context.environment()));
  start.mutable_env()->insert(variables.begin(), variables.end());
  CTR_RETURN_IF_ERROR(CheckUtf8(flags.working_dir, "--workdir"));
  start.set_working_dir(flags.working_dir);
  start.set_stdin(flags.interactive);
  if (flags.terminal) {
    if (flags.interactive && ::isatty(context.io().input) != 1) {
      return absl::InvalidArgumentError(
          "-t needs a terminal on standard input, which is none; leave -t away");
    }
    *start.mutable_terminal() =
        SizeOf({context.io().input, STDOUT_FILENO}).value_or(v1::TerminalSize());
    auto term = Variable(context.environment(), "TERM");
    if (term && !term->empty() && CheckUtf8(*term, "TERM").ok()) {
      start.mutable_env()->insert({"TERM", *term});
    }
  }
  return request;
}

int ExitStatusOfExec(const Status& status) {
  const std::string code = ErrorCodeOf(status);
  if (code == code::kCommandNotFound) return kNotFound;
  if (code == code::kCommandNotExecutable) return kNotExecutable;
  return absl::IsDeadlineExceeded(status) ? kTimedOut : kOurFailure;
}

// The command's output, byte for byte; false if nobody takes it any more.
bool Print(const std::string& bytes, std::ostream& out) {
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  out.flush();
  return out.good();
}

// Once the command has begun, standard output is its own.
int Fail(const Status& status, bool started, const Context& context) {
  if (started) {
    Report(status, Output::kTable, context.io());
  } else {
    context.Fail(status);
  }
  return ExitStatusOfExec(status);
}

int Stream(const ExecFlags& flags, const v1::ExecRequest& request, Client& client,
           const Context& context, const HeldSignals& signals) {
  grpc::ClientContext call_context;
  client.SetDeadline(call_context);
  std::unique_ptr<ExecCall> call = client.stub().Exec(&call_context);
  call->Write(request);  // if it fails, the call's status says why
  std::optional<int> exit_code;
  bool started = false;
  bool unheard = false;
  int ended_by = 0;
  {
    ExecSender sender(
        *call, call_context, signals,
        {.input = flags.interactive ? context.io().input : -1, .terminal = flags.terminal});
    v1::ExecResponse response;
    while (!exit_code && !unheard && call->Read(&response)) {
      if (response.has_started()) {
        started = true;
        sender.Started();
      } else if (response.has_stdout()) {
        unheard = !Print(response.stdout(), context.io().out);
      } else if (response.has_stderr()) {
        unheard = !Print(response.stderr(), context.io().err);
      } else if (response.has_stdin_taken()) {
        sender.Taken(response.stdin_taken());
      } else if (response.has_exit_code()) {
        exit_code = response.exit_code();
      }
    }
    if (unheard) call_context.TryCancel();
    ended_by = sender.ended_by();
  }
  grpc::Status finished = call->Finish();
  if (exit_code) return *exit_code;
  if (ended_by != 0) return 128 + ended_by;
  if (unheard) return 128 + SIGPIPE;
  Status status = client.StatusFrom(finished, call_context);
  if (status.ok()) status = absl::InternalError("the agent ended the exec without an exit status");
  if (started && ErrorCodeOf(status) == "agent_unreachable") {
    status = Error(status.code(), "agent_unreachable",
                   absl::StrCat(std::string(status.message()), "; the command is ended, too"));
  }
  return Fail(status, started, context);
}

int Exec(const ExecFlags& flags, std::vector<std::string> command, Context& context) {
  if (!command.empty() && command.front() == "--") {
    command.erase(command.begin());
  } else if (!command.empty() && command.front().starts_with("-")) {
    return context.Fail(absl::InvalidArgumentError(
        absl::StrCat("unknown flag ", command.front(), "; see: ctr exec --help")));
  }
  StatusOr<v1::ExecRequest> request = RequestOf(flags, std::move(command), context);
  if (!request.ok()) return context.Fail(request.status());
  // Before gRPC makes threads, which would take the signals.
  HeldSignals signals;
  // A reader that goes away must not end us before the terminal is as it was.
  if (flags.terminal) ::signal(SIGPIPE, SIG_IGN);
  StatusOr<Client*> client = context.client();
  if (!client.ok()) return Fail(client.status(), false, context);
  return Stream(flags, *request, **client, context, signals);
}

}  // namespace

Action DefineExec(CLI::App& app) {
  auto flags = std::make_shared<ExecFlags>();
  AddInstance(app, flags->name);
  app.add_flag("-i,--interactive", flags->interactive, "pass on standard input");
  app.add_flag("-t,--tty", flags->terminal, "give it a terminal");
  AddRepeatable(app, "-e,--env", flags->variables,
                "a variable for the command; NAME alone takes the value it has here", "NAME=VALUE");
  app.add_option("-w,--workdir", flags->working_dir, "where it runs; default: the instance's own")
      ->type_name("DIR");
  // Everything from the command on is the command's.
  app.prefix_command();
  app.description(absl::StrCat(
      app.get_description(),
      "\n\nctr exec [-i] [-t] [-e NAME=VALUE] [-w DIR] ID [--] COMMAND [ARGUMENT...]\n"
      "Exit status: the command's; 128+n if signal n ended it; 125 ctr failed, 126 the command\n"
      "cannot be executed, 127 it is not there, 124 timed out."));
  return [flags, &app](Context& context) { return Exec(*flags, app.remaining(), context); };
}

}  // namespace ctr::cli
