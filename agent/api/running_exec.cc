#include "agent/api/running_exec.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "agent/base/work.h"

namespace ctr {
namespace {

constexpr size_t kShownCommand = 200;

// The command on one line, shortened.
std::string Shown(const std::vector<std::string>& argv) {
  std::string text = absl::StrJoin(argv, " ");
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < ' ') c = ' ';
  }
  if (text.size() <= kShownCommand) return text;
  // Not within a UTF-8 sequence.
  size_t end = kShownCommand;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end) + "…";
}

}  // namespace

awaitable<StatusOr<std::shared_ptr<RunningExec>>> RunningExec::Start(
    Supervisor* supervisor, Runtime* runtime, asio::any_io_executor control,
    Supervisor::InstancePtr instance, ExecSpec spec, MonoTime deadline, std::string cause) {
  co_await AllowCancellation(false);
  CTR_CO_ASSIGN_OR_RETURN(Visit visit, co_await supervisor->Enter(instance, deadline, cause));
  std::string command = Shown(spec.argv);
  StatusOr<std::unique_ptr<ExecProcess>> process =
      co_await runtime->Exec(visit.container_id(), std::move(spec));
  if (!process.ok()) co_return Annotate(process.status(), instance->name().ToString());
  co_return std::shared_ptr<RunningExec>(
      new RunningExec(supervisor->events(), std::move(visit), *std::move(process),
                      std::move(command), std::move(cause)),
      [control](RunningExec* exec) { asio::post(control, [exec] { delete exec; }); });
}

RunningExec::RunningExec(EventLog& events, Visit visit, std::unique_ptr<ExecProcess> process,
                         std::string command, std::string cause)
    : events_(events),
      visit_(std::move(visit)),
      process_(std::move(process)),
      command_(std::move(command)),
      cause_(std::move(cause)) {
  Record(absl::StrCat("began: ", command_), std::nullopt);
}

awaitable<Status> RunningExec::Signal(int signal) {
  if (!process_) co_return absl::NotFoundError("the process has ended");
  co_return process_->Signal(signal);
}

awaitable<Status> RunningExec::Resize(TerminalSize size) {
  if (!process_) co_return absl::NotFoundError("the process has ended");
  co_return co_await process_->Resize(size);
}

awaitable<Status> RunningExec::CloseInput() {
  if (!process_) co_return absl::NotFoundError("the process has ended");
  co_return co_await process_->CloseInput();
}

void RunningExec::End() {
  if (!std::exchange(ended_, true)) {
    Record(absl::StrCat("ended, its client went away: ", command_), std::nullopt);
  }
  process_.reset();
}

awaitable<StatusOr<int>> RunningExec::WaitExit() {
  StatusOr<int> code = co_await process_->WaitExit();
  if (code.ok() && !std::exchange(ended_, true)) Record(absl::StrCat("ended: ", command_), *code);
  co_return code;
}

void RunningExec::Record(std::string message, std::optional<int> exit_code) {
  events_.Record({.type = event::kExec,
                  .instance = visit_.instance()->name(),
                  .generation = visit_.instance()->observed().generation,
                  .message = std::move(message),
                  .cause = cause_,
                  .exit_code = exit_code});
}

}  // namespace ctr
