#include "agent/runtime/containerd/containerd_process.h"

#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include <spdlog/spdlog.h>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "agent/base/read_file.h"
#include "agent/base/spawn.h"
#include "agent/runtime/containerd/client.h"

namespace ctr {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr seconds kStartTimeout(30);
constexpr seconds kStopGrace(5);
// It has run well if it lasted this long: the next restart is immediate again.
constexpr seconds kSteady(10);
constexpr milliseconds kFirstPause(100);
constexpr milliseconds kLongestPause(1000);
constexpr int64_t kMaxLogBytes = 10 << 20;

// Debian keeps runc in /usr/sbin, which is not in everyone's PATH.
std::string SearchPath() {
  const char* path = std::getenv("PATH");
  constexpr char kSystem[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
  return path == nullptr ? kSystem : absl::StrCat(path, ":", kSystem);
}

StatusOr<std::string> FindProgram(const std::string& name) {
  std::string path = SearchPath();
  for (absl::string_view folder : absl::StrSplit(path, ':', absl::SkipEmpty())) {
    std::string candidate = absl::StrCat(folder, "/", name);
    if (::access(candidate.c_str(), X_OK) == 0) return candidate;
  }
  return absl::FailedPreconditionError(
      absl::StrCat(name, " is not installed: apt-get install containerd runc"));
}

// By way of a temporary file, so that a reader never sees half of it.
Status WriteFile(const std::string& path, const std::string& text) {
  std::string temporary = path + ".new";
  std::ofstream file(temporary, std::ios::trunc);
  file << text;
  file.close();
  if (!file || ::rename(temporary.c_str(), path.c_str()) != 0) {
    return ErrnoError(errno, absl::StrCat("cannot write ", path));
  }
  return absl::OkStatus();
}

Status MakeFolder(const std::string& path, mode_t mode) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) return ErrnoError(error.value(), absl::StrCat("cannot make the folder ", path));
  if (::chmod(path.c_str(), mode) != 0) {
    return ErrnoError(errno, absl::StrCat("cannot set the mode of ", path));
  }
  return absl::OkStatus();
}

// Who listens on the socket; 0 if nobody does.
int ListenerOf(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return 0;
  std::memcpy(address.sun_path, path.data(), path.size());
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return 0;
  ucred peer = {};
  socklen_t size = sizeof peer;
  if (::getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return 0;
  return peer.pid;
}

// What containerd said last, to explain why it ended.
std::string LastLine(const std::string& path) {
  std::string text = ReadFileText(path);
  std::vector<std::string> lines = absl::StrSplit(text, '\n', absl::SkipWhitespace());
  return lines.empty() ? "it wrote nothing" : lines.back();
}

}  // namespace

ContainerdProcess::ContainerdProcess(Clock* clock, ContainerdPaths paths)
    : clock_(clock), paths_(std::move(paths)) {}

bool ContainerdProcess::IsOurs(const Pidfd& process) const {
  std::string command = ReadFileText(absl::StrCat("/proc/", process.pid(), "/cmdline"));
  std::vector<std::string> arguments = absl::StrSplit(command, '\0');
  return std::find(arguments.begin(), arguments.end(), paths_.config_file) != arguments.end() &&
         !process.HasExited();
}

StatusOr<Pidfd> ContainerdProcess::Find() const {
  int from_file = 0;
  if (!absl::SimpleAtoi(ReadFileText(paths_.pid_file), &from_file)) from_file = 0;
  for (int pid : {from_file, ListenerOf(paths_.socket)}) {
    if (pid <= 0) continue;
    StatusOr<Pidfd> process = Pidfd::Open(pid);
    if (process.ok() && IsOurs(*process)) return process;
  }
  return absl::NotFoundError("no private containerd runs");
}

Status ContainerdProcess::Start() {
  CTR_ASSIGN_OR_RETURN(std::string program, FindProgram("containerd"));
  CTR_RETURN_IF_ERROR(FindProgram("runc").status());
  CTR_RETURN_IF_ERROR(FindProgram("containerd-shim-runc-v2").status());
  CTR_RETURN_IF_ERROR(CheckSocketPath(paths_.socket + ".ttrpc"));
  if (paths_.root.find_first_of(",:\\") != std::string::npos) {
    return absl::FailedPreconditionError(
        absl::StrCat("the data directory ", paths_.root,
                     " has a comma, colon or backslash in its path, which overlayfs can't mount: "
                     "choose another --data-dir"));
  }
  // Users that containers run as reach their files through the root; nobody else may list it.
  CTR_RETURN_IF_ERROR(MakeFolder(paths_.data, 0711));
  CTR_RETURN_IF_ERROR(MakeFolder(paths_.run, 0711));
  CTR_RETURN_IF_ERROR(WriteFile(paths_.config_file, ContainerdConfig(paths_)));
  std::error_code ignored;
  if (fs::file_size(paths_.log_file, ignored) > kMaxLogBytes && !ignored) {
    fs::rename(paths_.log_file, paths_.log_file + ".old", ignored);
  }

  SpawnOptions options;
  options.argv = {program, "--config", paths_.config_file};
  options.environment = {absl::StrCat("PATH=", SearchPath())};
  options.output_path = paths_.log_file;
  options.keeps_oom_score = true;  // until it has its own
  CTR_ASSIGN_OR_RETURN(int pid, Spawn(options));
  CTR_ASSIGN_OR_RETURN(Pidfd process, Pidfd::Open(pid));
  process_ = std::make_shared<Pidfd>(std::move(process));
  return WriteFile(paths_.pid_file, absl::StrCat(pid, "\n"));
}

awaitable<Status> ContainerdProcess::UntilReady() {
  ContainerdClient client(paths_.socket, "ctr");
  MonoTime deadline = clock_->Now() + kStartTimeout;
  while (clock_->Now() < deadline) {
    StatusOr<version::VersionResponse> answer = co_await client.Call(
        &VersionApi::Version, {}, {.timeout = milliseconds(200), .wait_for_ready = true});
    if (answer.ok()) co_return absl::OkStatus();
    if (process_->HasExited()) {
      ::waitpid(process_->pid(), nullptr, WNOHANG);
      co_return absl::FailedPreconditionError(absl::StrCat("containerd ended while it started (",
                                                           paths_.log_file,
                                                           "): ", LastLine(paths_.log_file)));
    }
  }
  co_return absl::DeadlineExceededError(absl::StrCat("containerd runs but does not answer at ",
                                                     paths_.socket, "; see ", paths_.log_file));
}

awaitable<Status> ContainerdProcess::EnsureRunning() {
  StatusOr<Pidfd> found = Find();
  if (found.ok()) {
    process_ = std::make_shared<Pidfd>(*std::move(found));
  } else {
    CTR_CO_RETURN_IF_ERROR(Start());
  }
  co_return co_await UntilReady();
}

awaitable<void> ContainerdProcess::KeepRunning(std::shared_ptr<ContainerdProcess> self,
                                               std::function<void()> on_back) {
  Duration pause = Duration::zero();
  for (;;) {
    MonoTime since = self->clock_->Now();
    if (std::shared_ptr<Pidfd> process = self->process_; process != nullptr) {
      co_await process->WaitExit();
      // Our own child, or one of an earlier agent that init has reaped.
      ::waitpid(process->pid(), nullptr, WNOHANG);
    }
    if (self->clock_->Now() - since > kSteady) pause = Duration::zero();
    spdlog::warn("containerd has ended; starting it again (see {})", self->paths_.log_file);
    co_await self->clock_->SleepUntil(self->clock_->Now() + pause);
    pause = std::clamp<Duration>(pause * 2, kFirstPause, kLongestPause);
    Status status = co_await self->EnsureRunning();
    if (status.ok()) {
      on_back();
    } else {
      spdlog::error("containerd does not start: {}", std::string(status.message()));
    }
  }
}

awaitable<Status> ContainerdProcess::Stop() {
  StatusOr<Pidfd> found = Find();
  if (!found.ok()) co_return absl::OkStatus();
  found->Signal(SIGTERM).IgnoreError();
  MonoTime deadline = clock_->Now() + kStopGrace;
  while (!found->HasExited()) {
    if (clock_->Now() > deadline) found->Signal(SIGKILL).IgnoreError();
    co_await clock_->SleepUntil(clock_->Now() + milliseconds(5));
  }
  ::waitpid(found->pid(), nullptr, WNOHANG);
  std::error_code ignored;
  fs::remove(paths_.pid_file, ignored);
  co_return absl::OkStatus();
}

}  // namespace ctr
