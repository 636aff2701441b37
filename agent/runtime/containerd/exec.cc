#include "agent/runtime/containerd/exec.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "agent/base/ulid.h"
#include "agent/base/work.h"
#include "agent/runtime/containerd/exec_spec.h"

namespace ctr {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr milliseconds kHangupGrace(500);  // from SIGHUP to SIGKILL
constexpr milliseconds kExecRetryPause(50);
constexpr seconds kExecKillTimeout(10);

std::string ExecRoot(const Core& core) { return core.options.run_dir + "/exec"; }

// One exec's names, and where its FIFOs are.
struct ExecIds {
  std::string container;
  std::string exec;
  std::string folder;

  std::string Fifo(const char* name) const { return absl::StrCat(folder, "/", name); }
};

template <typename Request>
Request RequestFor(const ExecIds& ids) {
  Request request;
  request.set_container_id(ids.container);
  request.set_exec_id(ids.exec);
  return request;
}

// Our ends. Those that we do not read or write keep a FIFO open until the shim has opened it: a
// reader would see its end else, and a writer be refused.
struct Fifos {
  ExecStreams streams;
  std::array<UniqueFd, 3> held;
  UniqueFd lock;  // of the folder: this agent serves the exec
};

// Invalid if a process that lives has it. Blocks.
UniqueFd LockFolder(const std::string& folder) {
  UniqueFd lock(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (lock.valid() && ::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) lock.Reset();
  return lock;
}

StatusOr<UniqueFd> OpenFifo(const std::string& path, int flags) {
  UniqueFd fd(::open(path.c_str(), flags | O_NONBLOCK | O_CLOEXEC));
  if (!fd.valid()) return ErrnoError(errno, absl::StrCat("cannot open ", path));
  return fd;
}

StatusOr<Fifos> MakeFifos(const ExecIds& ids, bool input, bool error) {
  std::error_code failure;
  std::filesystem::create_directories(ids.folder, failure);
  if (failure || ::chmod(ids.folder.c_str(), 0700) != 0) {
    return absl::InternalError(absl::StrCat("cannot create ", ids.folder, ": ", failure.message()));
  }
  for (const char* name : {"0", "1", "2"}) {
    if (::mkfifo(ids.Fifo(name).c_str(), 0600) != 0) {
      return ErrnoError(errno, absl::StrCat("cannot create ", ids.Fifo(name)));
    }
  }
  Fifos fifos;
  fifos.lock = LockFolder(ids.folder);
  if (input) {
    CTR_ASSIGN_OR_RETURN(fifos.held[0], OpenFifo(ids.Fifo("0"), O_RDONLY));
    CTR_ASSIGN_OR_RETURN(fifos.streams.input, OpenFifo(ids.Fifo("0"), O_WRONLY));
  }
  CTR_ASSIGN_OR_RETURN(fifos.streams.output, OpenFifo(ids.Fifo("1"), O_RDONLY));
  CTR_ASSIGN_OR_RETURN(fifos.held[1], OpenFifo(ids.Fifo("1"), O_WRONLY));
  if (error) {
    CTR_ASSIGN_OR_RETURN(fifos.streams.error, OpenFifo(ids.Fifo("2"), O_RDONLY));
    CTR_ASSIGN_OR_RETURN(fifos.held[2], OpenFifo(ids.Fifo("2"), O_WRONLY));
  }
  return fifos;
}

bool RemoveFifos(const std::string& folder) {
  std::error_code ignored;
  std::filesystem::remove_all(folder, ignored);
  return true;
}

awaitable<StatusOr<int>> WaitForExec(std::shared_ptr<Core> core, ExecIds ids) {
  for (;;) {
    StatusOr<tasks::WaitResponse> exit =
        co_await core->client.Call(&TasksApi::Wait, RequestFor<tasks::WaitRequest>(ids),
                                   {.timeout = hours(1), .wait_for_ready = true});
    if (exit.ok()) co_return static_cast<int>(exit->exit_status());
    if (core->client.closed()) co_return exit.status();
    // The container was removed, and the process with it.
    if (absl::IsNotFound(exit.status())) co_return 128 + SIGKILL;
    co_await core->clock->SleepUntil(core->clock->Now() + kExecRetryPause);
  }
}

awaitable<Status> DeleteExec(std::shared_ptr<Core> core, ExecIds ids) {
  co_return (co_await core->client.Call(&TasksApi::DeleteProcess,
                                        RequestFor<tasks::DeleteProcessRequest>(ids)))
      .status();
}

// What is left of an exec whose process has ended, or is to: kills it, and removes it and its
// FIFOs.
awaitable<void> RemoveExec(std::shared_ptr<Core> core, ExecIds ids) {
  // One that was made and never started has no end that could be waited for.
  if (const Status deleted = co_await DeleteExec(core, ids);
      !deleted.ok() && !absl::IsNotFound(deleted)) {
    auto kill = RequestFor<tasks::KillRequest>(ids);
    kill.set_signal(SIGKILL);
    // Each fails where the process, or the exec, is gone.
    (void)co_await core->client.Call(&TasksApi::Kill, std::move(kill));
    (void)co_await core->client.Call(&TasksApi::Wait, RequestFor<tasks::WaitRequest>(ids),
                                     {.timeout = kExecKillTimeout});
    (void)co_await DeleteExec(core, ids);
  }
  co_await OnWork(core->work, [folder = ids.folder] { return RemoveFifos(folder); });
}

Status SignalGroup(const Pidfd& process, int signal) {
  if (process.HasExited()) {
    return absl::NotFoundError(absl::StrCat("process ", process.pid(), " has exited"));
  }
  // While it lives, its number is its own, and that of the group which runc made it the leader of.
  if (::kill(-process.pid(), signal) == 0) return absl::OkStatus();
  return process.Signal(signal);
}

// SIGHUP, a moment, SIGKILL; then the rest.
awaitable<void> EndExec(std::shared_ptr<Core> core, ExecIds ids,
                        std::shared_ptr<const Pidfd> process) {
  if (process && SignalGroup(*process, SIGHUP).ok()) {
    MonoTime deadline = core->clock->Now() + kHangupGrace;
    while (!process->HasExited() && core->clock->Now() < deadline) {
      co_await core->clock->SleepUntil(core->clock->Now() + milliseconds(10));
    }
    (void)SignalGroup(*process, SIGKILL);
  }
  co_await RemoveExec(core, std::move(ids));
}

class ContainerdExec final : public ExecProcess {
 public:
  ContainerdExec(std::shared_ptr<Core> core, ExecIds ids)
      : core_(std::move(core)), ids_(std::move(ids)) {}
  ContainerdExec(const ContainerdExec&) = delete;
  ~ContainerdExec() override {
    asio::co_spawn(core_->control, EndExec(core_, ids_, process_), asio::detached);
  }

  void Hold(UniqueFd lock) { lock_ = std::move(lock); }
  void Started(ExecStreams streams, std::shared_ptr<const Pidfd> process) {
    streams_ = std::move(streams);
    process_ = std::move(process);
  }

  ExecStreams TakeStreams() override { return std::move(streams_); }

  Status Signal(int signal) override {
    if (!process_) return absl::NotFoundError("the process has exited");
    return SignalGroup(*process_, signal);
  }

  awaitable<Status> Resize(TerminalSize size) override {
    auto request = RequestFor<tasks::ResizePtyRequest>(ids_);
    request.set_height(size.rows);
    request.set_width(size.columns);
    return ResizeOf(core_, std::move(request));
  }

  awaitable<Status> CloseInput() override {
    auto request = RequestFor<tasks::CloseIORequest>(ids_);
    request.set_stdin(true);
    return CloseInputOf(core_, std::move(request));
  }

  awaitable<StatusOr<int>> WaitExit() override { return WaitForExec(core_, ids_); }

 private:
  static awaitable<Status> ResizeOf(std::shared_ptr<Core> core, tasks::ResizePtyRequest request) {
    co_return (co_await core->client.Call(&TasksApi::ResizePty, std::move(request))).status();
  }
  static awaitable<Status> CloseInputOf(std::shared_ptr<Core> core, tasks::CloseIORequest request) {
    co_return (co_await core->client.Call(&TasksApi::CloseIO, std::move(request))).status();
  }

  const std::shared_ptr<Core> core_;
  const ExecIds ids_;
  UniqueFd lock_;
  ExecStreams streams_;
  std::shared_ptr<const Pidfd> process_;  // null if it exited at once
};

awaitable<StatusOr<std::string>> SpecOf(std::shared_ptr<Core> core, std::string id) {
  containers::GetContainerRequest get;
  get.set_id(id);
  StatusOr<containers::GetContainerResponse> record =
      co_await core->client.Ask(&ContainersApi::Get, std::move(get));
  if (!record.ok()) co_return record.status();
  co_return std::move(*record->mutable_container()->mutable_spec()->mutable_value());
}

tasks::ExecProcessRequest ExecRequest(const ExecIds& ids, const ExecSpec& spec,
                                      std::string process) {
  auto request = RequestFor<tasks::ExecProcessRequest>(ids);
  request.set_terminal(spec.terminal.has_value());
  if (spec.wants_stdin) request.set_stdin(ids.Fifo("0"));
  request.set_stdout(ids.Fifo("1"));
  if (!spec.terminal) request.set_stderr(ids.Fifo("2"));
  request.mutable_spec()->set_type_url("types.containerd.io/opencontainers/runtime-spec/1/Process");
  request.mutable_spec()->set_value(std::move(process));
  return request;
}

}  // namespace

awaitable<StatusOr<std::unique_ptr<ExecProcess>>> StartExec(std::shared_ptr<Core> core,
                                                            std::string container_id,
                                                            ExecSpec spec) {
  CTR_CO_ASSIGN_OR_RETURN(std::string oci_spec, co_await SpecOf(core, container_id));
  CTR_CO_ASSIGN_OR_RETURN(std::string process, ExecProcessText(oci_spec, spec));
  ExecIds ids;
  ids.container = std::move(container_id);
  ids.exec = NewUlid(core->clock->Wall());
  ids.folder = absl::StrCat(ExecRoot(*core), "/", ids.container, ".", ids.exec);
  // From here on its destructor removes what there is.
  auto exec = std::make_unique<ContainerdExec>(core, ids);
  auto make_fifos = [ids, input = spec.wants_stdin, error = !spec.terminal] {
    return std::make_shared<StatusOr<Fifos>>(MakeFifos(ids, input, error));
  };
  std::shared_ptr<StatusOr<Fifos>> fifos = co_await OnWork(core->work, make_fifos);
  if (!fifos->ok()) co_return fifos->status();
  exec->Hold(std::move((*fifos)->lock));
  StatusOr<google::protobuf::Empty> made =
      co_await core->client.Call(&TasksApi::Exec, ExecRequest(ids, spec, std::move(process)));
  if (!made.ok()) co_return ExecError(made.status(), spec);
  StatusOr<tasks::StartResponse> started = co_await core->client.Call(
      &TasksApi::Start, RequestFor<tasks::StartRequest>(ids), {.timeout = seconds(60)});
  if (!started.ok()) co_return ExecError(started.status(), spec);
  // It may have exited already; then there is nothing to hold.
  std::shared_ptr<const Pidfd> held;
  const int pid = static_cast<int>(started->pid());
  StatusOr<Pidfd> opened = Pidfd::Open(pid);
  if (opened.ok() && ProcessIsInCgroup(pid, core->CgroupPath(ids.container))) {
    held = std::make_shared<const Pidfd>(*std::move(opened));
  }
  exec->Started(std::move((*fifos)->streams), std::move(held));
  co_return exec;
}

awaitable<Status> EndLeftExecs(std::shared_ptr<Core> core) {
  // But not those of an agent that this one takes over from, which serves them to their end.
  auto list = [root = ExecRoot(*core)] {
    std::vector<std::string> names;
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator(root, ignored)) {
      if (LockFolder(entry.path()).valid()) names.push_back(entry.path().filename());
    }
    return names;
  };
  for (const std::string& name : co_await OnWork(core->work, list)) {
    size_t dot = name.find('.');
    if (dot == std::string::npos) continue;
    ExecIds ids;
    ids.container = name.substr(0, dot);
    ids.exec = name.substr(dot + 1);
    ids.folder = absl::StrCat(ExecRoot(*core), "/", name);
    co_await RemoveExec(core, std::move(ids));
  }
  co_return absl::OkStatus();
}

}  // namespace ctr
