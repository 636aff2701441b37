#include "agent/control/hook.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "agent/base/fd.h"
#include "agent/base/pidfd.h"
#include "agent/base/spawn.h"
#include "agent/base/work.h"

namespace ctr {
namespace {

constexpr Duration kTimeLimit = std::chrono::seconds(30);
constexpr size_t kOutputLimit = size_t{1} << 20;
constexpr size_t kTailBytes = 1000;  // of the output, to explain a failure

// What the command writes: its tail is kept.
struct Output {
  explicit Output(const asio::any_io_executor& executor) : pipe(executor) {}

  void Add(const char* data, size_t size) {
    total += size;
    tail.append(data, size);
    if (tail.size() > 2 * kTailBytes) tail.erase(0, tail.size() - kTailBytes);
  }
  // What is there already; the writer may be gone.
  void Drain() {
    std::array<char, 4096> buffer;
    while (pipe.is_open() && total <= kOutputLimit) {
      const ssize_t size = ::read(pipe.native_handle(), buffer.data(), buffer.size());
      if (size <= 0) return;
      Add(buffer.data(), static_cast<size_t>(size));
    }
  }

  asio::posix::stream_descriptor pipe;
  std::string tail;
  size_t total = 0;
};

awaitable<void> ReadOutput(std::shared_ptr<Output> output) {
  std::array<char, 4096> buffer;
  ErrorCode error;
  while (!error && output->total <= kOutputLimit) {
    const size_t size = co_await output->pipe.async_read_some(
        asio::buffer(buffer), asio::redirect_error(use_awaitable, error));
    output->Add(buffer.data(), size);
  }
}

// Not reaped yet, so the group's number still is this group's.
void KillAndReap(int pid, const asio::any_io_executor& work) {
  ::kill(-pid, SIGKILL);
  asio::post(work, [pid] { ::waitpid(pid, nullptr, 0); });
}

// Ends the command and what it started, unless they have ended, and reaps it.
class Child {
 public:
  Child(Pidfd process, asio::any_io_executor work)
      : process_(std::move(process)), work_(std::move(work)) {}
  Child(const Child&) = delete;
  ~Child() {
    if (!reaped_) KillAndReap(process_.pid(), work_);
  }

  const Pidfd& process() const { return process_; }
  // After its exit.
  int Reap() {
    int status = 0;
    ::waitpid(process_.pid(), &status, 0);
    reaped_ = true;
    return status;
  }

 private:
  const Pidfd process_;
  const asio::any_io_executor work_;
  bool reaped_ = false;
};

std::vector<std::string> EnvironmentOf(const HookCall& call) {
  std::vector<std::string> environment;
  for (const char* name : {"PATH", "HOME", "LANG"}) {
    const char* value = std::getenv(name);
    if (value != nullptr && !call.env.contains(name)) {
      environment.push_back(absl::StrCat(name, "=", value));
    }
  }
  for (const auto& [name, value] : call.env) environment.push_back(absl::StrCat(name, "=", value));
  return environment;
}

std::string LastLine(std::string text) {
  text = std::string(absl::StripTrailingAsciiWhitespace(text));
  text = text.substr(text.rfind('\n') == std::string::npos ? 0 : text.rfind('\n') + 1);
  return text.empty() ? "" : absl::StrCat(": ", text);
}

Status Verdict(const HookCall& call, int status, const std::string& tail) {
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return absl::OkStatus();
  const std::string how = WIFEXITED(status)
                              ? absl::StrCat("exited with ", WEXITSTATUS(status))
                              : absl::StrCat("was ended by signal ", WTERMSIG(status));
  return absl::AbortedError(absl::StrCat(call.command.front(), " ", how, LastLine(tail)));
}

}  // namespace

awaitable<Status> RunHook(Clock* clock, asio::any_io_executor work, HookCall call) {
  using asio::experimental::awaitable_operators::operator||;
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) co_return ErrnoError(errno, "cannot run a hook");
  UniqueFd reading(ends[0]);
  auto writing = std::make_shared<UniqueFd>(ends[1]);
  ::fcntl(reading.get(), F_SETFL, O_NONBLOCK);

  SpawnOptions options;
  options.argv = call.command;
  options.environment = EnvironmentOf(call);
  options.output_fd = writing->get();
  StatusOr<int> pid = co_await OnWork(work, [options, writing] { return Spawn(options); });
  writing.reset();
  if (!pid.ok()) co_return pid.status();
  StatusOr<Pidfd> process = Pidfd::Open(*pid);
  if (!process.ok()) {
    KillAndReap(*pid, work);
    co_return process.status();
  }
  Child child(*std::move(process), work);

  const asio::any_io_executor executor = co_await asio::this_coro::executor;
  auto output = std::make_shared<Output>(executor);
  output->pipe.assign(reading.Release());
  asio::co_spawn(executor, ReadOutput(output), asio::detached);
  co_await (child.process().WaitExit() || clock->SleepUntil(clock->Now() + kTimeLimit));
  output->Drain();
  output->pipe.close();
  if (!child.process().HasExited()) {
    co_return absl::DeadlineExceededError(absl::StrCat(
        call.command.front(), " did not end within ", kTimeLimit / std::chrono::seconds(1),
        " s and was killed", LastLine(output->tail)));
  }
  co_return Verdict(call, child.Reap(), output->tail);
}

}  // namespace ctr
