#include "agent/registry/credentials.h"

#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "agent/base/fd.h"
#include "agent/base/spawn.h"
#include "agent/base/time.h"

namespace ctr {
namespace {

constexpr size_t kMaxConfigBytes = 1 << 20;
constexpr size_t kMaxAnswerBytes = 64 << 10;
constexpr Duration kHelperTime = std::chrono::seconds(10);
constexpr int kLookMilliseconds = 100;  // whether anybody still waits for it
constexpr Duration kHelperGlance = std::chrono::milliseconds(5);

std::string HomeOf() {
  const char* home = std::getenv("HOME");
  if (home != nullptr && *home != '\0') return home;
  std::array<char, 4096> buffer;
  passwd entry = {};
  passwd* found = nullptr;
  ::getpwuid_r(::getuid(), &entry, buffer.data(), buffer.size(), &found);
  return found != nullptr ? found->pw_dir : "/root";
}

// "" for a file that is not there.
StatusOr<std::string> ReadConfig(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) {
    if (errno == ENOENT || errno == ENOTDIR) return std::string();
    return ErrnoError(errno, absl::StrCat("cannot read ", path));
  }
  std::string text;
  std::array<char, 16384> buffer;
  while (text.size() <= kMaxConfigBytes) {
    const ssize_t size = ::read(fd.get(), buffer.data(), buffer.size());
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return ErrnoError(errno, absl::StrCat("cannot read ", path));
    if (size == 0) return text;
    text.append(buffer.data(), static_cast<size_t>(size));
  }
  return absl::FailedPreconditionError(absl::StrCat(path, " is larger than 1 MiB"));
}

std::vector<std::string> HelperEnvironment() {
  std::vector<std::string> environment = {"HOME=" + HomeOf()};
  for (const char* name : {"PATH", "LANG", "DOCKER_CONFIG", "GNUPGHOME", "PASSWORD_STORE_DIR",
                           "AWS_PROFILE", "AWS_REGION", "GOOGLE_APPLICATION_CREDENTIALS"}) {
    const char* value = std::getenv(name);
    if (value != nullptr) environment.push_back(absl::StrCat(name, "=", value));
  }
  return environment;
}

struct Pipe {
  UniqueFd reading;
  UniqueFd writing;
};

StatusOr<Pipe> MakePipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return ErrnoError(errno, "cannot ask a credential helper");
  return Pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

// How long a helper is waited for.
struct Patience {
  const std::string& program;
  const std::atomic<bool>& abandoned;
  const MonoTime deadline = std::chrono::steady_clock::now() + kHelperTime;

  Status Failed(std::string_view how) const {
    return absl::FailedPreconditionError(
        absl::StrCat("the credential helper ", program, std::string(how)));
  }
  Status Check() const {
    if (abandoned) return absl::CancelledError("the pull was given up");
    if (std::chrono::steady_clock::now() < deadline) return absl::OkStatus();
    return Failed(" did not answer within 10 seconds");
  }
};

// Reads what the helper writes until it closes its end.
Status ReadAnswer(const Patience& patience, int fd, std::string& text) {
  std::array<char, 4096> buffer;
  while (text.size() <= kMaxAnswerBytes) {
    CTR_RETURN_IF_ERROR(patience.Check());
    pollfd ready = {.fd = fd, .events = POLLIN, .revents = 0};
    if (::poll(&ready, 1, kLookMilliseconds) <= 0) continue;
    const ssize_t size = ::read(fd, buffer.data(), buffer.size());
    if (size < 0 && errno == EINTR) continue;
    if (size == 0) return absl::OkStatus();
    if (size < 0) return patience.Failed("'s answer can't be read");
    text.append(buffer.data(), static_cast<size_t>(size));
  }
  return patience.Failed(" wrote more than 64 KiB, which is no login");
}

// Gives its status, as waitpid does. It may close its output long before it ends.
StatusOr<int> AwaitEnd(const Patience& patience, int pid) {
  for (int status = 0;;) {
    const pid_t ended = ::waitpid(pid, &status, WNOHANG);
    if (ended == pid) return status;
    if (ended < 0 && errno != EINTR)
      return ErrnoError(errno, "cannot wait for " + patience.program);
    CTR_RETURN_IF_ERROR(patience.Check());
    std::this_thread::sleep_for(kHelperGlance);
  }
}

StatusOr<Login> AskHelper(const LoginSource& source, const std::atomic<bool>& abandoned) {
  const std::string program = absl::StrCat("docker-credential-", source.helper);
  CTR_ASSIGN_OR_RETURN(Pipe question, MakePipe());
  CTR_ASSIGN_OR_RETURN(Pipe answer, MakePipe());
  SpawnOptions options;
  options.argv = {program, "get"};
  options.environment = HelperEnvironment();
  options.input_fd = question.reading.get();
  options.output_fd = answer.writing.get();
  const UniqueFd nowhere(::open("/dev/null", O_WRONLY | O_CLOEXEC));
  options.error_fd = nowhere.get();
  StatusOr<int> pid = Spawn(options);
  if (!pid.ok()) {
    return absl::FailedPreconditionError(absl::StrCat("the credential helper ", program,
                                                      ", which docker's config.json names, can't "
                                                      "be run: ",
                                                      std::string(pid.status().message())));
  }
  question.reading.Reset();
  answer.writing.Reset();
  const std::string line = source.server_url + "\n";
  // Fits into the pipe; a helper that does not read it has ended (SIGPIPE is ignored).
  [[maybe_unused]] const ssize_t written =
      ::write(question.writing.get(), line.data(), line.size());
  question.writing.Reset();
  const Patience patience{program, abandoned};
  std::string text;
  const Status read = ReadAnswer(patience, answer.reading.get(), text);
  StatusOr<int> ended = read.ok() ? AwaitEnd(patience, *pid) : read;
  if (!ended.ok()) {
    ::kill(-*pid, SIGKILL);
    while (::waitpid(*pid, nullptr, 0) < 0 && errno == EINTR) continue;
    return ended.status();
  }
  if (WIFEXITED(*ended) && WEXITSTATUS(*ended) == 0) return ParseHelperAnswer(text);
  // So it says that it knows no login.
  if (absl::StrContains(text, "credentials not found")) return Login();
  return absl::FailedPreconditionError(
      absl::StrCat("the credential helper ", program,
                   " failed: ", text.substr(0, std::min<size_t>(text.find('\n'), 200))));
}

}  // namespace

std::string DefaultDockerConfig() {
  const char* folder = std::getenv("DOCKER_CONFIG");
  if (folder != nullptr && *folder != '\0') return absl::StrCat(folder, "/config.json");
  return absl::StrCat(HomeOf(), "/.docker/config.json");
}

StatusOr<Login> LookUpLogin(const std::string& config_file, const std::string& host,
                            const std::atomic<bool>& abandoned) {
  CTR_ASSIGN_OR_RETURN(std::string text, ReadConfig(config_file));
  if (text.empty()) return Login();
  CTR_ASSIGN_OR_RETURN(LoginSource source, FindLogin(text, host));
  if (source.helper.empty()) return source.login;
  return AskHelper(source, abandoned);
}

}  // namespace ctr
