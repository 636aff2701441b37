#include "agent/base/fd_store.h"

#include <sys/socket.h>

#include <cstdlib>
#include <cstring>
#include <utility>

#include <systemd/sd-daemon.h>

#include "absl/strings/str_cat.h"
#include "spdlog/spdlog.h"

namespace ctr {
namespace {

int SocketOption(int fd, int option) {
  int value = -1;
  socklen_t size = sizeof value;
  return ::getsockopt(fd, SOL_SOCKET, option, &value, &size) == 0 ? value : -1;
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

UniqueFd FdStore::Take(const std::string& name) {
  auto found = handed_over_.find(name);
  if (found == handed_over_.end()) return UniqueFd();
  UniqueFd fd = std::move(found->second.front());
  handed_over_.erase(found);
  return fd;
}

void FdStore::Keep(const std::string& name, int fd) {
  if (!available_) return;
  const std::string message = absl::StrCat("FDSTORE=1\nFDNAME=", name);
  LogFailure(::sd_pid_notify_with_fds(0, 0, message.c_str(), &fd, 1),
             absl::StrCat("cannot keep ", name));
}

void FdStore::Remove(const std::string& name) {
  if (available_) Notify(absl::StrCat("FDSTOREREMOVE=1\nFDNAME=", name));
}

void FdStore::DiscardRest() {
  for (const auto& [name, fds] : std::exchange(handed_over_, {})) {
    spdlog::warn("the service manager handed over \"{}\", which is of no use: closing it", name);
    Remove(name);
  }
}

void FdStore::Notify(const std::string& state) const {
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
