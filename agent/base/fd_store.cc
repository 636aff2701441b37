#include "agent/base/fd_store.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include <systemd/sd-daemon.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "spdlog/spdlog.h"

namespace ctr {
namespace {

int SocketOption(int fd, int option) {
  int value = -1;
  socklen_t size = sizeof value;
  return ::getsockopt(fd, SOL_SOCKET, option, &value, &size) == 0 ? value : -1;
}

std::pair<uint64_t, uint64_t> IdentityOf(int fd) {
  struct stat status = {};
  if (::fstat(fd, &status) != 0) return {0, 0};
  return {status.st_dev, status.st_ino};
}

void LogFailure(int result, const std::string& what) {
  // 0: there is no socket to send to.
  if (result < 0) spdlog::warn("the service manager: {}: {}", what, std::strerror(-result));
}

}  // namespace

FdStore FdStore::FromEnvironment() {
  FdStore store(std::getenv("NOTIFY_SOCKET") != nullptr);
  char** names = nullptr;
  const int count = ::sd_listen_fds_with_names(/*unset_environment=*/1, &names);
  if (count < 0) LogFailure(count, "descriptors handed over");
  for (int i = 0; i < count; ++i) {
    store.handed_over_[names[i]].emplace_back(SD_LISTEN_FDS_START + i);
    std::free(names[i]);
  }
  std::free(names);
  return store;
}

FdStore FdStore::FromPredecessor(Descriptors handed_over) {
  FdStore store(std::getenv("NOTIFY_SOCKET") != nullptr);
  store.handed_over_ = std::move(handed_over);
  store.untold_.emplace();
  return store;
}

UniqueFd FdStore::Take(const std::string& name) {
  auto found = handed_over_.find(name);
  if (found == handed_over_.end()) return UniqueFd();
  UniqueFd fd = std::move(found->second.front());
  handed_over_.erase(found);
  Note(name, fd.get());
  return fd;
}

void FdStore::Note(const std::string& name, int fd) {
  kept_[name] = fd;
  identities_[name] = IdentityOf(fd);
}

// Something else takes each number, so that its owner may close it as ever.
void FdStore::LetGo() {
  const UniqueFd nothing(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (!nothing.valid()) return;
  for (const auto& [name, fd] : std::exchange(kept_, {})) {
    // Unless its owner has closed it by now, and the number is another's.
    if (IdentityOf(fd) == identities_[name]) ::dup3(nothing.get(), fd, O_CLOEXEC);
  }
}

void FdStore::Keep(const std::string& name, int fd) {
  Note(name, fd);
  if (untold_) {
    untold_->kept.insert(name);
  } else {
    Send(name, fd);
  }
}

void FdStore::Send(const std::string& name, int fd) const {
  if (!available_ || passed_on_) return;
  // Unasked, systemd drops what poll() finds an error on, as it does on every BPF map.
  const std::string message = absl::StrCat("FDSTORE=1\nFDPOLL=0\nFDNAME=", name);
  LogFailure(::sd_pid_notify_with_fds(0, 0, message.c_str(), &fd, 1),
             absl::StrCat("cannot keep ", name));
}

void FdStore::Remove(const std::string& name) {
  kept_.erase(name);
  if (untold_) {
    untold_->kept.erase(name);
    untold_->removed.insert(name);
  } else if (available_) {
    Notify(absl::StrCat("FDSTOREREMOVE=1\nFDNAME=", name));
  }
}

void FdStore::Announce() {
  if (!untold_) return;
  const Untold untold = *std::exchange(untold_, std::nullopt);
  if (!available_) return;
  for (const std::string& name : untold.removed) {
    Notify(absl::StrCat("FDSTOREREMOVE=1\nFDNAME=", name));
  }
  for (const std::string& name : untold.kept) Send(name, kept_.at(name));
}

void FdStore::DiscardRest() {
  for (const auto& [name, fds] : std::exchange(handed_over_, {})) {
    spdlog::warn("\"{}\" was handed over, which is of no use: closing it", name);
    Remove(name);
  }
}

void FdStore::StartAgain(const std::vector<std::string>& command) const {
  if (available_) return;
  std::vector<std::string> names;
  std::vector<int> copies;
  const int above = SD_LISTEN_FDS_START + static_cast<int>(kept_.size());
  for (const auto& [name, fd] : kept_) {
    if (lent_.contains(name)) continue;
    const int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, above);
    if (copy < 0) continue;
    names.push_back(name);
    copies.push_back(copy);
  }
  for (size_t i = 0; i < copies.size(); ++i) {
    ::dup2(copies[i], SD_LISTEN_FDS_START + static_cast<int>(i));
  }
  ::setenv("LISTEN_PID", absl::StrCat(::getpid()).c_str(), 1);
  ::setenv("LISTEN_FDS", absl::StrCat(copies.size()).c_str(), 1);
  ::setenv("LISTEN_FDNAMES", absl::StrJoin(names, ":").c_str(), 1);
  std::vector<char*> argv;
  for (const std::string& word : command) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  // Not the program of that name, which may be another by now.
  ::execv("/proc/self/exe", argv.data());
  LogFailure(-errno, "cannot start again");
}

void FdStore::Notify(const std::string& state) const {
  if (passed_on_) return;
  LogFailure(::sd_notify(0, state.c_str()), state);
}

Status CheckListening(int fd, int family) {
  if (SocketOption(fd, SO_DOMAIN) != family || SocketOption(fd, SO_TYPE) != SOCK_STREAM) {
    return absl::InvalidArgumentError("it is no stream socket of the right family");
  }
  if (SocketOption(fd, SO_ACCEPTCONN) != 1) {
    return absl::InvalidArgumentError("it is a socket that does not listen");
  }
  return absl::OkStatus();
}

}  // namespace ctr
