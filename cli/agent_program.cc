#include "cli/agent_program.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "agent/base/fd.h"

namespace ctr::cli {
namespace {

std::string AgentPath() {
  std::error_code error;
  const std::filesystem::path own = std::filesystem::read_symlink("/proc/self/exe", error);
  std::string beside = own.parent_path() / "ctr-agent";
  return ::access(beside.c_str(), X_OK) == 0 ? beside : "ctr-agent";
}

}  // namespace

StatusOr<std::string> RunAgentProgram(const std::string& flag) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return ErrnoError(errno, "cannot run ctr-agent");
  const UniqueFd reading(ends[0]);
  UniqueFd writing(ends[1]);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, writing.get(), STDOUT_FILENO);
  const std::string path = AgentPath();
  std::array<char*, 3> argv = {const_cast<char*>(path.c_str()), const_cast<char*>(flag.c_str()),
                               nullptr};
  pid_t pid = -1;
  const int error = ::posix_spawnp(&pid, path.c_str(), &actions, nullptr, argv.data(), ::environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return ErrnoError(error, "cannot run ctr-agent");
  writing.Reset();
  std::string output;
  std::array<char, 4096> buffer;
  ssize_t size = 0;
  while ((size = ::read(reading.get(), buffer.data(), buffer.size())) > 0) {
    output.append(buffer.data(), static_cast<size_t>(size));
  }
  int status = 0;
  ::waitpid(pid, &status, 0);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return output;
  return absl::InternalError(absl::StrCat(path, " ", flag, " failed"));
}

}  // namespace ctr::cli
