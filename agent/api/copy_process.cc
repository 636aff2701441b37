#include "agent/api/copy_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "agent/base/close.h"
#include "agent/base/descriptors.h"
#include "agent/base/spawn.h"
#include "agent/tar/inside.h"
#include "agent/tar/outcome.h"

namespace ctr {
namespace {

using asio::experimental::awaitable_operators::operator||;

constexpr size_t kPieceBytes = 256 << 10;
constexpr int kPipeBytes = 1 << 20;
constexpr size_t kMaxOutcomeBytes = 64 << 10;
constexpr Duration kEndGrace = std::chrono::seconds(2);  // to remove a half-written file

struct Pipe {
  UniqueFd reading;
  UniqueFd writing;
};

StatusOr<Pipe> MakePipe() {
  int ends[2];
  if (OpenDescriptor([&] { return ::pipe2(ends, O_CLOEXEC); }) != 0) {
    return ErrnoError(errno, "cannot make a pipe for a copy");
  }
  // Fewer switches; where the user has no more of them, a small one does.
  (void)::fcntl(ends[1], F_SETPIPE_SZ, kPipeBytes);
  return Pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

// Its pipes are closed: waits until it has ended, and reaps it.
awaitable<void> Reap(std::shared_ptr<const Pidfd> process, Clock* clock) {
  co_await (process->WaitExit() || clock->SleepUntil(clock->Now() + kEndGrace));
  process->Signal(SIGKILL).IgnoreError();
  co_await process->WaitExit();
  ::waitpid(process->pid(), nullptr, 0);
}

}  // namespace

CopyProcess::CopyProcess(asio::any_io_executor strand, Clock& clock)
    : strand_(std::move(strand)),
      clock_(clock),
      input_(strand_),
      output_(strand_),
      outcome_(strand_) {}

StatusOr<std::unique_ptr<CopyProcess>> CopyProcess::Start(asio::any_io_executor strand,
                                                          Clock& clock, const ContainerFiles& files,
                                                          std::vector<std::string> arguments) {
  CTR_ASSIGN_OR_RETURN(Pipe input, MakePipe());
  CTR_ASSIGN_OR_RETURN(Pipe output, MakePipe());
  CTR_ASSIGN_OR_RETURN(Pipe outcome, MakePipe());
  SpawnOptions options;
  options.argv = {"/proc/self/exe", tar::kInsideArgument};
  options.argv.insert(options.argv.end(), arguments.begin(), arguments.end());
  options.environment = {"LC_ALL=C"};
  options.input_fd = input.reading.get();
  options.output_fd = output.writing.get();
  options.error_fd = outcome.writing.get();
  options.passed_fds = {files.mount_namespace.get(), files.process->descriptor()};
  auto copy = std::unique_ptr<CopyProcess>(new CopyProcess(std::move(strand), clock));
  CTR_ASSIGN_OR_RETURN(const int pid, Spawn(options));
  StatusOr<Pidfd> process = Pidfd::Open(pid);
  if (!process.ok()) {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    return process.status();
  }
  copy->process_ = std::make_shared<const Pidfd>(*std::move(process));
  copy->input_.assign(input.writing.Release());
  copy->output_.assign(output.reading.Release());
  copy->outcome_.assign(outcome.reading.Release());
  return copy;
}

CopyProcess::~CopyProcess() {
  Close(input_);
  Close(output_);
  Close(outcome_);
  if (process_) asio::co_spawn(strand_, Reap(process_, &clock_), asio::detached);
}

awaitable<bool> CopyProcess::Feed(std::string bytes) {
  ErrorCode error;
  co_await asio::async_write(input_, asio::buffer(bytes),
                             asio::redirect_error(use_awaitable, error));
  co_return !error;
}

void CopyProcess::EndInput() { Close(input_); }

awaitable<std::string> CopyProcess::Read() {
  std::string bytes(kPieceBytes, '\0');
  ErrorCode error;
  const size_t count = co_await output_.async_read_some(asio::buffer(bytes),
                                                        asio::redirect_error(use_awaitable, error));
  bytes.resize(count);
  co_return bytes;
}

awaitable<StatusOr<tar::Totals>> CopyProcess::Finish() {
  std::string text;
  ErrorCode ended;
  co_await asio::async_read(outcome_, asio::dynamic_buffer(text, kMaxOutcomeBytes),
                            asio::redirect_error(use_awaitable, ended));
  co_return tar::ParseOutcome(text);
}

}  // namespace ctr
