#include "agent/base/run_command.h"

#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "agent/base/descriptors.h"
#include "agent/base/pidfd.h"
#include "agent/base/spawn.h"

namespace ctr {
namespace {

constexpr char kSystemFolders[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

// A file in memory, and no pipe: neither side ever waits for the other.
StatusOr<UniqueFd> MemoryFile(std::string_view content) {
  UniqueFd fd(OpenDescriptor([] { return ::memfd_create("ctr", MFD_CLOEXEC); }));
  if (!fd.valid() || ::pwrite(fd.get(), content.data(), content.size(), 0) !=
                         static_cast<ssize_t>(content.size())) {
    return ErrnoError(errno, "cannot run a command");
  }
  return fd;
}

std::string Content(const UniqueFd& file) {
  std::string content;
  std::array<char, 16384> buffer;
  ssize_t size = 0;
  while ((size = ::pread(file.get(), buffer.data(), buffer.size(),
                         static_cast<off_t>(content.size()))) > 0) {
    content.append(buffer.data(), static_cast<size_t>(size));
  }
  return content;
}

std::string FirstLine(const std::string& text) {
  const std::string line(absl::StripAsciiWhitespace(text.substr(0, text.find('\n'))));
  return line.empty() ? "" : absl::StrCat(": ", line);
}

}  // namespace

std::string FindProgram(std::string_view name) {
  if (name.find('/') != std::string_view::npos) return std::string(name);
  const char* path = std::getenv("PATH");
  const std::string folders = absl::StrCat(path != nullptr ? path : "", ":", kSystemFolders);
  for (absl::string_view folder : absl::StrSplit(folders, ':', absl::SkipEmpty())) {
    std::string program = absl::StrCat(folder, "/", std::string(name));
    if (::access(program.c_str(), X_OK) == 0) return program;
  }
  return "";
}

StatusOr<std::string> RunCommand(const std::vector<std::string>& argv, std::string_view input,
                                 Duration limit) {
  CTR_ASSIGN_OR_RETURN(const UniqueFd in, MemoryFile(input));
  CTR_ASSIGN_OR_RETURN(const UniqueFd out, MemoryFile(""));
  CTR_ASSIGN_OR_RETURN(const UniqueFd error, MemoryFile(""));
  SpawnOptions options;
  options.argv = argv;
  options.argv[0] = FindProgram(argv[0]);
  if (options.argv[0].empty()) {
    return absl::NotFoundError(absl::StrCat("there is no program ", argv[0]));
  }
  options.environment = {absl::StrCat("PATH=", kSystemFolders), "LC_ALL=C"};
  options.input_fd = in.get();
  options.output_fd = out.get();
  options.error_fd = error.get();
  CTR_ASSIGN_OR_RETURN(const int pid, Spawn(options));
  StatusOr<Pidfd> process = Pidfd::Open(pid);  // not reaped, so it is this one
  bool late = false;
  if (process.ok()) {
    pollfd ended{.fd = process->descriptor(), .events = POLLIN, .revents = 0};
    const auto milliseconds = std::chrono::duration_cast<std::chrono::milliseconds>(limit).count();
    int count = 0;
    while ((count = ::poll(&ended, 1, static_cast<int>(milliseconds))) < 0 && errno == EINTR) {
    }
    late = count == 0;
    if (late) ::kill(-pid, SIGKILL);
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (late) return absl::DeadlineExceededError(absl::StrCat(argv[0], " did not end in time"));
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return Content(out);
  return absl::AbortedError(absl::StrCat(argv[0], " failed", FirstLine(Content(error))));
}

}  // namespace ctr
