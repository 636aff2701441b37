#include "agent/control/data_dir.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <iterator>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "agent/base/read_file.h"
#include "agent/base/ulid.h"

namespace ctr {
namespace {

constexpr char kPrivate[] = "private";
// The files that only an agent's data directory has.
constexpr const char* kMarks[] = {"agent-id", "containerd-socket", "state.db"};

Status MakeFolder(const std::string& path, mode_t mode) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error)
    return absl::InternalError(absl::StrCat("cannot create ", path, ": ", error.message()));
  if (::chmod(path.c_str(), mode) != 0) return ErrnoError(errno, "cannot set the mode of " + path);
  return absl::OkStatus();
}

// The one line of a file, or "" if there is no such file.
std::string ReadLine(const std::string& path) {
  return std::string(absl::StripAsciiWhitespace(ReadFirstLine(path)));
}

// Whole or not at all, also if the machine stops.
Status WriteLine(const std::string& path, const std::string& line) {
  const std::string temporary = path + ".new";
  UniqueFd fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640));
  const std::string text = line + "\n";
  if (!fd.valid() ||
      ::write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()) ||
      ::fsync(fd.get()) != 0 || ::rename(temporary.c_str(), path.c_str()) != 0) {
    return ErrnoError(errno, "cannot write " + path);
  }
  return absl::OkStatus();
}

// Whether that file is the open one.
bool IsAt(const UniqueFd& file, const std::string& path) {
  struct stat ours = {};
  struct stat there = {};
  return ::fstat(file.get(), &ours) == 0 && ::stat(path.c_str(), &there) == 0 &&
         ours.st_dev == there.st_dev && ours.st_ino == there.st_ino;
}

// The lock of that file, which `held` has to be, if a running agent handed that over. Invalid if it
// is another, or if another process holds it.
StatusOr<UniqueFd> OpenLock(const std::string& path, mode_t folder_mode, UniqueFd held) {
  if (held.valid()) return IsAt(held, path) ? std::move(held) : UniqueFd();
  UniqueFd lock;
  // Once more if a purge removed the file after it was opened: another agent could lock a new one.
  do {
    CTR_RETURN_IF_ERROR(MakeFolder(path.substr(0, path.rfind('/')), folder_mode));
    lock = UniqueFd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0640));
    if (!lock.valid()) {
      return ErrnoError(
          errno, absl::StrCat("cannot write ", path, " (give writable --data-dir and --run-dir)"));
    }
    if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) return UniqueFd();
  } while (!IsAt(lock, path));
  return lock;
}

}  // namespace

StatusOr<DataDir> DataDir::Open(std::string path, UniqueFd lock) {
  const std::string lock_path = path + "/lock";
  CTR_ASSIGN_OR_RETURN(lock, OpenLock(lock_path, 0750, std::move(lock)));
  if (!lock.valid()) {
    return absl::FailedPreconditionError(absl::StrCat("another ctr-agent (pid ",
                                                      ReadLine(lock_path), ") uses ", path,
                                                      "; stop it, or give another --data-dir"));
  }
  DataDir data_dir(std::move(path), std::move(lock));
  data_dir.NotePid();
  return data_dir;
}

// A disk that is full must not keep the agent from starting.
void DataDir::NotePid() const {
  const std::string pid = absl::StrCat(::getpid(), "\n");
  if (::pwrite(lock_.get(), pid.data(), pid.size(), 0) > 0) {
    [[maybe_unused]] int ignored = ::ftruncate(lock_.get(), static_cast<off_t>(pid.size()));
  }
}

bool DataDir::HasAgentId() const { return !ReadLine(path_ + "/agent-id").empty(); }

StatusOr<std::string> DataDir::AgentId() const {
  const std::string file = path_ + "/agent-id";
  std::string id = ReadLine(file);
  if (!id.empty()) return id;
  id = NewUlid(std::chrono::system_clock::now()).substr(16);
  CTR_RETURN_IF_ERROR(WriteLine(file, id));
  return id;
}

StatusOr<std::string> DataDir::DecideContainerd(const std::string& requested) const {
  const std::string file = path_ + "/containerd-socket";
  const std::string kept = ReadLine(file);
  const std::string wanted = requested.empty() ? kPrivate : requested;
  if (kept.empty()) {
    CTR_RETURN_IF_ERROR(WriteLine(file, wanted));
    return requested;
  }
  if (!requested.empty() && kept != wanted) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the instances of ", path_, " live in ",
        kept == kPrivate ? "a private containerd" : "the containerd at " + kept, ", not at ",
        requested, "; start without --containerd, or purge first: ctr-agent --purge --data-dir ",
        path_));
  }
  return kept == kPrivate ? "" : kept;
}

bool DataDir::IsInUse() const {
  return std::any_of(std::begin(kMarks), std::end(kMarks), [&](const char* name) {
    return ::access((path_ + "/" + name).c_str(), F_OK) == 0;
  });
}

Status DataDir::Purge() const {
  std::vector<std::string> names;
  std::error_code error;
  if (IsInUse()) {
    names = {"logs", "reserve", "containerd-socket.new", "agent-id.new", "network", "network.new"};
    for (std::filesystem::directory_iterator it(path_, error), end; !error && it != end;
         it.increment(error)) {
      std::string name = it->path().filename();
      if (name.starts_with("state.db")) names.push_back(std::move(name));
    }
  }
  // What tells that the rest is an agent's goes after it, and the lock last.
  names.insert(names.end(), std::rbegin(kMarks), std::rend(kMarks));
  names.emplace_back("lock");
  for (const std::string& name : names) {
    std::filesystem::remove_all(path_ + "/" + name, error);
    if (error) return ErrnoError(error.value(), absl::StrCat("cannot remove ", path_, "/", name));
  }
  ::rmdir(path_.c_str());
  return absl::OkStatus();
}

StatusOr<UniqueFd> PrepareRunDir(const std::string& path, UniqueFd lock) {
  CTR_ASSIGN_OR_RETURN(lock, OpenLock(path + "/lock", 0755, std::move(lock)));
  if (lock.valid()) return lock;
  return absl::FailedPreconditionError(absl::StrCat("another ctr-agent serves ", path,
                                                    "/agent.sock; stop it, or give another "
                                                    "--run-dir"));
}

}  // namespace ctr
