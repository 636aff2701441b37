#pragma once

#include <map>
#include <string>
#include <vector>

#include "agent/base/error.h"
#include "agent/base/fd.h"

namespace ctr {

// Descriptors that outlive this process: systemd's file descriptor store, or what speaks its
// protocol. What is put there under a name is handed to the next process, and connections to a
// listener meanwhile wait in its backlog. Without a service manager (NOTIFY_SOCKET is not set)
// nothing is kept, and everything here does nothing. Home: the control loop; owned by main.
class FdStore {
 public:
  // Keeps nothing.
  FdStore() = default;
  // As the environment says: LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES, which it takes out of it, and
  // NOTIFY_SOCKET. Once in a process.
  static FdStore FromEnvironment();

  // Whether what is kept here is there after the process's end.
  bool available() const { return available_; }

  // The descriptor that was handed over under `name`, close-on-exec; invalid if there is none. It
  // stays in the store. One of several of a name; the others are closed.
  UniqueFd Take(const std::string& name);
  // Puts a copy of `fd` into the store; `name` has no colon and at most 255 printable characters.
  void Keep(const std::string& name, int fd);
  // Takes what has this name out of the store.
  void Remove(const std::string& name);
  // Closes what was handed over and nobody took, and takes it out of the store.
  void DiscardRest();

  // Tells the service manager about the process: "READY=1", "STOPPING=1".
  void Notify(const std::string& state) const;

 private:
  explicit FdStore(bool available) : available_(available) {}

  bool available_ = false;
  std::map<std::string, std::vector<UniqueFd>> handed_over_;  // and not taken yet
};

// Whether `fd` is a stream socket in LISTEN state of that family: else says what it is instead.
Status CheckListening(int fd, int family);

}  // namespace ctr
