#include <algorithm>
#include <optional>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "cli/arguments.h"
#include "cli/commands/commands.h"
#include "cli/commands/options.h"
#include "cli/log_output.h"
#include "cli/since.h"

namespace ctr::cli {
namespace {

struct LogsFlags {
  std::string name;
  bool follow = false;
  bool times = false;
  std::optional<std::string> since;
  std::optional<std::string> tail;
};

StatusOr<v1::ReadLogsRequest> RequestOf(const LogsFlags& flags, const Context& context) {
  v1::ReadLogsRequest request;
  CTR_ASSIGN_OR_RETURN(*request.mutable_ref(), context.Ref(flags.name));
  request.set_follow(flags.follow);
  if (flags.since) {
    CTR_ASSIGN_OR_RETURN(int64_t since_ms,
                         ParseSince(*flags.since, std::chrono::system_clock::now()));
    request.set_since_ns(since_ms * 1'000'000);
  }
  if (flags.tail && *flags.tail != "all") {
    int64_t lines = 0;
    if (!absl::SimpleAtoi(*flags.tail, &lines) || lines < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("--tail: \"", *flags.tail, "\" is no number of lines; write it like 100"));
    }
    request.set_tail(lines);
  }
  return request;
}

LogForm FormOf(const LogsFlags& flags, const Context& context) {
  if (!context.json()) return flags.times ? LogForm::kTimed : LogForm::kPlain;
  // What has no end is no array.
  const bool lines = context.settings().output == Output::kJsonLines || flags.follow;
  return lines ? LogForm::kJsonLines : LogForm::kJson;
}

Status Print(const LogsFlags& flags, Context& context) {
  CTR_ASSIGN_OR_RETURN(v1::ReadLogsRequest request, RequestOf(flags, context));
  CTR_ASSIGN_OR_RETURN(Client * client, context.client());
  grpc::ClientContext call;
  client->SetDeadline(call);
  auto reader = client->stub().ReadLogs(&call, request);
  LogOutput output(context.io(), FormOf(flags, context));
  v1::LogRecords message;
  Status printed;
  while (printed.ok() && reader->Read(&message)) printed = output.Print(message.records());
  if (!printed.ok()) call.TryCancel();
  grpc::Status finished = reader->Finish();
  CTR_RETURN_IF_ERROR(printed);
  if (!finished.ok()) return client->StatusFrom(finished, call);
  return output.Finish();
}

}  // namespace

Action DefineLogs(CLI::App& app) {
  auto flags = std::make_shared<LogsFlags>();
  AddInstance(app, flags->name);
  app.add_flag("-f,--follow", flags->follow,
               "go on with what it will write, over its sleeps and restarts");
  app.add_option("--since", flags->since,
                 "nothing older than a duration (10m), or a time (RFC 3339)")
      ->type_name("TIME");
  app.add_option("--tail,-n", flags->tail, "only the last lines of what there is; all for all")
      ->type_name("LINES");
  app.add_flag("-t,--timestamps", flags->times, "the time before each line");
  return [flags](Context& context) {
    Status status = Print(*flags, context);
    return status.ok() ? 0 : context.Fail(status);
  };
}

}  // namespace ctr::cli
