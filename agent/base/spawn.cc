#include "agent/base/spawn.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/base/descriptors.h"
#include "agent/base/fd.h"
#include "agent/base/oom_score.h"

namespace ctr {
namespace {

std::vector<char*> Pointers(const std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  pointers.reserve(strings.size() + 1);
  for (const std::string& text : strings) pointers.push_back(const_cast<char*>(text.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

// A descriptor of ours and its number in the new process.
struct Placed {
  UniqueFd fd;
  int number = -1;
};

// Those given, under numbers that none of the others takes in the new process.
StatusOr<std::vector<Placed>> Place(const SpawnOptions& options) {
  std::vector<std::pair<int, int>> wanted = {
      {options.input_fd, 0}, {options.output_fd, 1}, {options.error_fd, 2}};
  int next = 3;
  for (int fd : options.passed_fds) wanted.emplace_back(fd, next++);
  std::vector<Placed> placed;
  for (const auto& [fd, number] : wanted) {
    if (fd < 0) continue;
    const int copy = OpenDescriptor([fd = fd, next] { return ::fcntl(fd, F_DUPFD_CLOEXEC, next); });
    if (copy < 0) return ErrnoError(errno, absl::StrCat("cannot start ", options.argv[0]));
    placed.push_back({UniqueFd(copy), number});
  }
  return placed;
}

}  // namespace

StatusOr<int> Spawn(const SpawnOptions& options) {
  CTR_ASSIGN_OR_RETURN(std::vector<Placed> placed, Place(options));
  const char* output = options.output_path.empty() ? "/dev/null" : options.output_path.c_str();
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  if (options.output_fd < 0) {
    posix_spawn_file_actions_addopen(&actions, 1, output, O_WRONLY | O_APPEND | O_CREAT, 0640);
  }
  for (const Placed& place : placed) {
    posix_spawn_file_actions_adddup2(&actions, place.fd.get(), place.number);
  }
  if (options.error_fd < 0) posix_spawn_file_actions_adddup2(&actions, 1, 2);
  posix_spawn_file_actions_addclosefrom_np(&actions,
                                           3 + static_cast<int>(options.passed_fds.size()));

  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigset_t all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setflags(&attributes,
                           POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);

  std::vector<char*> argv = Pointers(options.argv);
  std::vector<char*> environment = Pointers(options.environment);
  pid_t pid = -1;
  int error = ::posix_spawnp(&pid, argv[0], &actions, &attributes, argv.data(), environment.data());
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return ErrnoError(error, absl::StrCat("cannot start ", options.argv[0]));
  if (!options.keeps_oom_score) ResetOomScore(pid);
  return pid;
}

}  // namespace ctr
