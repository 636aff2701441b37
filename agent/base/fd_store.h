#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/error.h"
#include "agent/base/fd.h"

namespace ctr {

// Descriptors that outlive this process: systemd's file descriptor store, or what speaks its
// protocol. What is put there under a name is handed to the next process, and connections to a
// listener meanwhile wait in its backlog. Without a service manager (NOTIFY_SOCKET is not set)
// nothing is kept beyond the process, and it is told nothing. Either way the names are known here,
// for an agent that takes over from this one. Home: the control loop; owned by main.
class FdStore {
 public:
  using Descriptors = std::map<std::string, std::vector<UniqueFd>>;

  // Keeps nothing.
  FdStore() = default;
  // As the environment says: LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES, which it takes out of it, and
  // NOTIFY_SOCKET. Once in a process.
  static FdStore FromEnvironment();
  // With what a running agent hands over: the service manager has it, too, if there is one, but
  // listens to that agent until Announce.
  static FdStore FromPredecessor(Descriptors handed_over);

  // Whether what is kept here is there after the process's end, or is not this process's alone:
  // what was handed over is still the running agent's until Announce.
  bool available() const { return available_ || passed_on_ || untold_.has_value(); }

  // The descriptor that was handed over under `name`, close-on-exec; invalid if there is none. It
  // stays in the store. One of several of a name; the others are closed.
  UniqueFd Take(const std::string& name);
  // Puts a copy of `fd` into the store; `name` has no colon and at most 255 printable characters.
  // It stays open until Remove.
  void Keep(const std::string& name, int fd);
  // The same for an agent that takes over, alone: a lock, that must end with the process.
  void Lend(const std::string& name, int fd) {
    Note(name, fd);
    lent_.insert(name);
  }
  // Takes what has this name out of the store.
  void Remove(const std::string& name);
  // Closes what was handed over and nobody took, and takes it out of the store.
  void DiscardRest();

  // What an agent that takes over gets.
  const std::map<std::string, int>& kept() const { return kept_; }
  // It has taken over: the store is its own from now on.
  void PassOn() { passed_on_ = true; }
  // It serves: this process holds none of it any more, listeners and locks, though their owners
  // live on. Nobody waits on them.
  void LetGo();
  // It took over and is gone before it served: becomes this program anew, by `command`, with what
  // is kept, as a service manager would start it. Where there is one, leaves that to it, and
  // returns.
  void StartAgain(const std::vector<std::string>& command) const;
  // This process is the service manager's main one by now: tells it what it would not hear before.
  void Announce();

  // Tells the service manager about the process: "READY=1", "STOPPING=1".
  void Notify(const std::string& state) const;

 private:
  // What the service manager has yet to be told.
  struct Untold {
    std::set<std::string> removed;  // first
    std::set<std::string> kept;
  };

  explicit FdStore(bool available) : available_(available) {}
  void Send(const std::string& name, int fd) const;

  bool available_ = false;
  bool passed_on_ = false;
  Descriptors handed_over_;  // and not taken yet
  void Note(const std::string& name, int fd);

  std::map<std::string, int> kept_;                                  // owned by who keeps it
  std::map<std::string, std::pair<uint64_t, uint64_t>> identities_;  // of those: device and inode
  std::set<std::string> lent_;                                       // of them
  std::optional<Untold> untold_;                                     // before Announce
};

// Whether `fd` is a stream socket in LISTEN state of that family: else says what it is instead.
Status CheckListening(int fd, int family);

}  // namespace ctr
