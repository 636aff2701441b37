// The part of AgentService that runs jobs.
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "agent/api/agent_service.h"
#include "agent/api/convert.h"
#include "agent/api/requests.h"
#include "agent/base/work.h"
#include "agent/control/log_files.h"
#include "agent/control/state_watch.h"

namespace ctr {
namespace {

using Reader = rpc::StreamReader<v1::RunInstanceRequest>;
using Writer = rpc::StreamWriter<v1::RunInstanceResponse>;
using InstancePtr = Supervisor::InstancePtr;

constexpr Duration kTeardownPoll = std::chrono::milliseconds(20);

// How one start came out. Shared by the handler and what goes on without it.
struct JobRun {
  std::unique_ptr<Alarm> alarm;
  std::optional<Status> started;  // what became of the wish to start it
  uint64_t generation = 0;        // of the start; 0 before its process is up
  bool never_ran = false;         // there was no process
  bool ended = false;
  bool over = false;  // the call, and with it its reader
  // Once ended, if there is one.
  std::optional<int> exit_code;
};

// A name that one call runs, so that another is refused.
class Claim {
 public:
  Claim(std::set<InstanceName>& names, InstanceName name) : names_(names), name_(std::move(name)) {
    taken_ = names_.insert(name_).second;
  }
  Claim(const Claim&) = delete;
  ~Claim() {
    if (taken_) names_.erase(name_);
  }
  bool taken() const { return taken_; }

 private:
  std::set<InstanceName>& names_;
  const InstanceName name_;
  bool taken_;
};

Status AlreadyRuns(const InstanceName& name) {
  return Error(absl::StatusCode::kFailedPrecondition, code::kConflict,
               absl::StrCat(name.ToString(), " already runs; see its output with: ctr logs -f ",
                            name.ToString(), ", or stop it first: ctr stop ", name.ToString()));
}

awaitable<void> StartJob(std::shared_ptr<JobRun> run, Supervisor& supervisor, InstancePtr instance,
                         MonoTime deadline, std::string cause) {
  run->started = co_await supervisor.Start(instance, true, deadline, std::move(cause));
  run->alarm->Ring();
}

Status HasPorts(const InstanceName& name) {
  const std::string text = name.ToString();
  return Error(absl::StatusCode::kFailedPrecondition, code::kConflict,
               absl::StrCat("class ", name.class_name,
                            " has ports, and only a job is run: a class without; start the "
                            "instance with: ctr get ",
                            text, ", and a command in it with: ctr exec ", text, " -- CMD"));
}

// Passes signals on until the client has no more, or is gone.
awaitable<void> ForwardSignals(std::shared_ptr<JobRun> run, Reader& reader, Runtime& runtime,
                               InstancePtr instance) {
  while (!run->over) {
    std::optional<v1::RunInstanceRequest> message = co_await reader.Read();
    if (!message) co_return;
    const bool same = instance->container() && instance->observed().generation == run->generation;
    if (!same || message->signal() < 1 || message->signal() > 64) continue;
    // It may have ended just now.
    (co_await runtime.Signal(instance->container()->id, message->signal())).IgnoreError();
  }
}

// How a start ends that has no exit code of its own.
awaitable<Status> WhyNotRun(std::shared_ptr<JobRun> run, InstancePtr instance) {
  while (!run->started) co_await run->alarm->WaitUntil(MonoTime::max());
  if (!run->started->ok()) {
    const std::string detail = DetailOf(*run->started);
    if (detail.empty()) co_return *run->started;
    std::string message(run->started->message());
    // What to do about an entrypoint does not help who gave the command.
    const bool is_given = !instance->record().command.value_or(std::vector<std::string>()).empty();
    if (is_given) message = message.substr(0, message.find(';'));
    co_return Error(absl::StatusCode::kFailedPrecondition, detail, message);
  }
  const std::string& message = instance->observed().message;
  co_return Error(absl::StatusCode::kAborted, code::kStartFailed,
                  absl::StrCat(instance->name().ToString(), " ended without an exit code",
                               message.empty() ? "" : ": ", message));
}

}  // namespace

grpc::ServerBidiReactor<v1::RunInstanceRequest, v1::RunInstanceResponse>* AgentService::RunInstance(
    grpc::CallbackServerContext* context) {
  return rpc::ServeBidi<v1::RunInstanceRequest, v1::RunInstanceResponse>(
      context, control_, [this](rpc::CallContext call, Reader& reader, Writer& writer) {
        return DoRunInstance(std::move(call), reader, writer);
      });
}

awaitable<Status> AgentService::DoRunInstance(rpc::CallContext call, Reader& reader,
                                              Writer& writer) {
  const Session counted(this);
  std::optional<v1::RunInstanceRequest> request = co_await reader.Read();
  if (!request) {
    co_return BadRequest("nothing to run");
  }
  CTR_CO_RETURN_IF_ERROR(CheckEnv(request->env()));
  CTR_CO_ASSIGN_OR_RETURN(InstanceName name, NameOf(request->ref()));
  CTR_CO_ASSIGN_OR_RETURN(std::shared_ptr<ClassState> class_state,
                          supervisor_.FindClass(name.class_name));
  if (!class_state->config->IsJob()) co_return HasPorts(name);
  Claim claim(runs_, name);
  if (!claim.taken()) co_return AlreadyRuns(name);

  // A client that goes away must not cut a change in two.
  co_await AllowCancellation(false);
  if (StatusOr<InstancePtr> known = supervisor_.Find(name);
      known.ok() && (*known)->state() != State::kStopped && !(*known)->destroying()) {
    co_return AlreadyRuns(name);
  }
  InstanceSettings settings;
  settings.env = {request->env().begin(), request->env().end()};
  settings.command.emplace(request->command().begin(), request->command().end());
  CTR_CO_ASSIGN_OR_RETURN(InstancePtr instance,
                          co_await supervisor_.GetOrCreate(name, std::move(settings), call.deadline,
                                                           CauseOf(call, "run")));
  const std::string folder = instance->LogPath();
  CTR_CO_RETURN_IF_ERROR(co_await OnWork(work_, [folder] { return PrepareLogFolder(folder); }));
  const LogPosition begin = co_await OnWork(work_, [folder] { return EndOfLog(folder); });
  auto cursor = std::make_shared<LogCursor>(folder, begin, std::nullopt, LogHold::kUntilRead);
  // From here on nothing is rotated away before it is read.
  CTR_CO_RETURN_IF_ERROR((co_await OnWork(work_, [cursor] { return cursor->Read(); })).status());
  co_await AllowCancellation(true);

  auto run = std::make_shared<JobRun>();
  const auto end_signals = absl::MakeCleanup([run] { run->over = true; });
  run->alarm = clock_.MakeAlarm(control_);
  const std::unique_ptr<LogWatcher::Watch> watch = log_watcher_.Add(folder, run->alarm.get());
  if (instance->state() != State::kStopped) co_return AlreadyRuns(name);
  const uint64_t before = instance->observed().generation;
  // Watched before it is asked for: a job may be over in no time.
  StateWatch up(
      control_, instance,
      [before](const Instance& it) {
        return it.observed().generation > before && it.state() != State::kStarting &&
               it.state() != State::kStopping;  // which also follows a start that failed
      },
      [run](const Instance& it) {
        run->generation = it.observed().generation;
        run->never_ran = it.state() == State::kStopped && !it.observed().exit_code;
      },
      run->alarm.get());
  instance->LetEnd();
  SpawnOrDie(control_, StartJob(run, supervisor_, instance, call.deadline, CauseOf(call, "run")),
             "start of " + name.ToString());
  while (!up.done() && (!run->started || run->started->ok())) {
    co_await run->alarm->WaitUntil(MonoTime::max());
  }
  // Who is told that a start failed may try again at once: not before all of it is torn down.
  while (!up.done() && instance->state() != State::kStopped && clock_.Now() < call.deadline) {
    co_await run->alarm->WaitUntil(clock_.Now() + kTeardownPoll);
  }
  // runc, too, writes to a container's stderr why it can't start it, which the error says better.
  if (!up.done() || run->never_ran) co_return co_await WhyNotRun(run, instance);

  const uint64_t generation = run->generation;
  StateWatch end(
      control_, instance,
      [generation](const Instance& it) {
        return it.observed().generation > generation || it.state() == State::kStopped;
      },
      [run](const Instance& it) {
        run->ended = true;
        run->exit_code = it.observed().exit_code;
      },
      run->alarm.get());
  v1::RunInstanceResponse first;
  ctr::ToProto(*instance, first.mutable_started());
  co_await writer.Write(std::move(first));
  asio::co_spawn(control_, ForwardSignals(run, reader, runtime_, instance),
                 [](std::exception_ptr) {});  // cancelled with the call

  for (std::optional<MonoTime> patience;;) {
    bool complete = false;
    if (run->ended) {
      if (!patience) patience = clock_.Now() + kWriterPatience;
      complete = clock_.Now() >= *patience || !co_await OnWork(work_, [folder, generation] {
                   return IsLogBeingWritten(folder, generation);
                 });
    }
    // Read on meanwhile: the logger may wait for just that.
    CTR_CO_ASSIGN_OR_RETURN(LogBatch batch,
                            co_await OnWork(work_, [cursor] { return cursor->Read(); }));
    v1::RunInstanceResponse output;
    for (const LogRecord& record : batch.records) {
      const bool lost = record.lost_bytes == LogRecord::kUnknownLoss;
      if (record.generation == generation || lost) ctr::ToProto(record, output.add_records());
    }
    if (output.records_size() > 0) co_await writer.Write(std::move(output));
    if (!batch.at_end) continue;
    if (complete) break;
    co_await run->alarm->WaitUntil(run->ended ? clock_.Now() + kWriterRecheck : MonoTime::max());
  }

  const bool timed_out =
      run->started && ErrorCodeOf(*run->started) == std::string(code::kStartTimeout);
  if (!run->exit_code || timed_out) co_return co_await WhyNotRun(run, instance);
  v1::RunInstanceResponse last;
  last.set_exit_code(*run->exit_code);
  last.set_destroyed(instance->destroying());
  co_await writer.Write(std::move(last));
  co_return absl::OkStatus();
}

}  // namespace ctr
