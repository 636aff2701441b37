#include "agent/base/spawn.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "agent/base/fd.h"

namespace ctr {
namespace {

const std::vector<std::string> kEnvironment = {"PATH=/usr/bin:/bin", "GREETING=hello"};

int Started(const SpawnOptions& options) {
  StatusOr<int> pid = Spawn(options);
  INFO(pid.status().ToString());
  REQUIRE(pid.ok());
  return *pid;
}

// The wait status of a process once it has ended.
int Reap(int pid) {
  int status = 0;
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  return status;
}

int ExitCodeOf(std::vector<std::string> argv) {
  const int status = Reap(Started({std::move(argv), kEnvironment, ""}));
  REQUIRE(WIFEXITED(status));
  return WEXITSTATUS(status);
}

}  // namespace

TEST_CASE("a process we start has no descriptor above 2") {
  UniqueFd pipe_ends[2];
  int fds[2];
  REQUIRE(::pipe(fds) == 0);
  pipe_ends[0] = UniqueFd(fds[0]);
  pipe_ends[1] = UniqueFd(fds[1]);
  // Without close-on-exec, as Asio's sockets are.
  UniqueFd high(::fcntl(fds[0], F_DUPFD, 77));
  REQUIRE(high.valid());
  const auto has = [](int fd) {
    return ExitCodeOf({"test", "-e", "/proc/self/fd/" + std::to_string(fd)}) == 0;
  };
  CHECK(has(0));
  CHECK(has(1));
  CHECK(has(2));
  CHECK_FALSE(has(fds[0]));
  CHECK_FALSE(has(fds[1]));
  CHECK_FALSE(has(high.get()));
}

TEST_CASE("a process we start leads a session of its own, and takes the signals that we block") {
  sigset_t blocked;
  sigset_t before;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGTERM);
  ::pthread_sigmask(SIG_BLOCK, &blocked, &before);
  const int pid = Started({{"sleep", "600"}, kEnvironment, ""});
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  CHECK(::getsid(pid) == pid);
  ::kill(pid, SIGTERM);
  const int status = Reap(pid);
  CHECK(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGTERM);
}

TEST_CASE("its output is appended to the file, and its environment is the one given") {
  const std::string path =
      std::filesystem::temp_directory_path() / ("ctr-spawn-" + std::to_string(::getpid()) + ".log");
  for (int i = 0; i < 2; ++i) {
    Reap(Started({{"sh", "-c", "echo $GREETING; echo $HOME err >&2; cat"}, kEnvironment, path}));
  }
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  std::filesystem::remove(path);
  CHECK(text.str() == "hello\nerr\nhello\nerr\n");
}

TEST_CASE("descriptors that are passed become stdin, stdout, stderr and 3 and up, and no others") {
  int in[2];
  int out[2];
  int extra[2];
  for (int* ends : {in, out, extra}) REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  UniqueFd closing[] = {UniqueFd(in[0]),  UniqueFd(in[1]),    UniqueFd(out[0]),
                        UniqueFd(out[1]), UniqueFd(extra[0]), UniqueFd(extra[1])};
  REQUIRE(::write(in[1], "from stdin\n", 11) == 11);
  REQUIRE(::write(extra[1], "from 4\n", 7) == 7);
  SpawnOptions options;
  // 3 first as the stdin that came from elsewhere: each goes to its place whatever it was here.
  options.argv = {"sh", "-c",
                  "head -n 1; head -n 1 <&4; echo error >&2; test -e /proc/self/fd/3 "
                  "&& test ! -e /proc/self/fd/5 && echo two"};
  options.environment = kEnvironment;
  options.input_fd = in[0];
  options.output_fd = out[1];
  options.passed_fds = {in[0], extra[0]};
  options.error_fd = out[1];
  const int status = Reap(Started(options));
  CHECK(WEXITSTATUS(status) == 0);
  char text[100];
  const ssize_t size = ::read(out[0], text, sizeof(text));
  REQUIRE(size > 0);
  CHECK(std::string(text, static_cast<size_t>(size)) == "from stdin\nfrom 4\nerror\ntwo\n");
}

TEST_CASE("a program that is not there is an error that names it") {
  StatusOr<int> pid = Spawn({{"/nonexistent/program"}, kEnvironment, ""});
  REQUIRE_FALSE(pid.ok());
  CHECK(std::string(pid.status().message()) ==
        "cannot start /nonexistent/program: No such file or directory");
}

}  // namespace ctr
