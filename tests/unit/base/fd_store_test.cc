// The store over a real notify socket, which this test reads in the service manager's place.
#include "agent/base/fd_store.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>

#include <doctest/doctest.h>

#include "absl/strings/str_cat.h"

namespace ctr {
namespace {

struct Notification {
  std::string text;
  UniqueFd fd;
};

// NOTIFY_SOCKET for as long as it lives.
class NotifySocket {
 public:
  NotifySocket()
      : path_(absl::StrCat("/tmp/ctr-notify-", ::getpid())),
        fd_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path_.c_str(), path_.size() + 1);
    std::filesystem::remove(path_);
    REQUIRE(::bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    ::setenv("NOTIFY_SOCKET", path_.c_str(), 1);
  }
  ~NotifySocket() {
    ::unsetenv("NOTIFY_SOCKET");
    std::filesystem::remove(path_);
  }

  // What was sent next; "" if nothing.
  Notification Receive() const {
    char text[512];
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int)) + 64];
    iovec part = {text, sizeof text};
    msghdr message = {};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const ssize_t size = ::recvmsg(fd_.get(), &message, MSG_CMSG_CLOEXEC);
    Notification notification;
    if (size < 0) return notification;
    notification.text.assign(text, static_cast<size_t>(size));
    for (cmsghdr* part_of = CMSG_FIRSTHDR(&message); part_of != nullptr;
         part_of = CMSG_NXTHDR(&message, part_of)) {
      if (part_of->cmsg_type != SCM_RIGHTS) continue;
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(part_of), sizeof fd);
      notification.fd = UniqueFd(fd);
    }
    return notification;
  }

 private:
  const std::string path_;
  const UniqueFd fd_;
};

UniqueFd Listening() {
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  REQUIRE(::listen(fd.get(), 1) == 0);
  return fd;
}

TEST_CASE("without a service manager nothing is kept and nothing is handed over") {
  FdStore store = FdStore::FromEnvironment();
  CHECK_FALSE(store.available());
  CHECK_FALSE(store.Take("http-0").valid());
  store.Keep("http-0", 0);
  store.Remove("http-0");
  store.DiscardRest();
}

TEST_CASE("a descriptor is kept with its name, and given up by it") {
  NotifySocket manager;
  FdStore store = FdStore::FromEnvironment();
  CHECK(store.available());
  UniqueFd listener = Listening();
  store.Keep("http-0", listener.get());
  Notification kept = manager.Receive();
  CHECK(kept.text == "FDSTORE=1\nFDPOLL=0\nFDNAME=http-0");
  CHECK(CheckListening(kept.fd.get(), AF_INET).ok());
  store.Remove("http-0");
  Notification removed = manager.Receive();
  CHECK(removed.text == "FDSTOREREMOVE=1\nFDNAME=http-0");
  CHECK_FALSE(removed.fd.valid());
  store.Notify("READY=1");
  CHECK(manager.Receive().text == "READY=1");
}

TEST_CASE("descriptors for another process are not taken") {
  NotifySocket manager;
  ::setenv("LISTEN_PID", "1", 1);
  ::setenv("LISTEN_FDS", "1", 1);
  ::setenv("LISTEN_FDNAMES", "http-0", 1);
  FdStore store = FdStore::FromEnvironment();
  CHECK_FALSE(store.Take("http-0").valid());
  CHECK(std::getenv("LISTEN_FDS") == nullptr);  // no child may take them for its own
}

TEST_CASE("what nobody takes is closed and given up") {
  UniqueFd taken = Listening();  // 3, unless somebody has that already
  NotifySocket manager;
  UniqueFd listener = Listening();
  const int saved = taken.get() == 3 ? -1 : ::dup(3);
  if (taken.get() == 3) (void)taken.Release();
  REQUIRE(::dup2(listener.get(), 3) == 3);
  ::setenv("LISTEN_PID", absl::StrCat(::getpid()).c_str(), 1);
  ::setenv("LISTEN_FDS", "1", 1);
  ::setenv("LISTEN_FDNAMES", "of-no-use", 1);
  FdStore store = FdStore::FromEnvironment();
  CHECK_FALSE(store.Take("http-0").valid());
  store.DiscardRest();
  CHECK(manager.Receive().text == "FDSTOREREMOVE=1\nFDNAME=of-no-use");
  CHECK_FALSE(CheckListening(3, AF_INET).ok());
  if (saved >= 0) {
    ::dup2(saved, 3);
    ::close(saved);
  }
}

TEST_CASE(
    "an agent that takes over has the descriptors by name, and the next one gets them from it") {
  FdStore::Descriptors handed_over;
  handed_over["http-0"].push_back(Listening());
  handed_over["of-no-use"].push_back(Listening());
  FdStore store = FdStore::FromPredecessor(std::move(handed_over));
  UniqueFd http = store.Take("http-0");
  CHECK(CheckListening(http.get(), AF_INET).ok());
  UniqueFd api = Listening();
  store.Keep("api", api.get());
  store.Lend("lock-run", api.get());
  store.DiscardRest();
  CHECK(store.kept() == std::map<std::string, int>{
                            {"api", api.get()}, {"http-0", http.get()}, {"lock-run", api.get()}});
  store.Remove("api");
  CHECK_FALSE(store.kept().contains("api"));
}

TEST_CASE("the service manager is told what an agent changed that took over, once it listens") {
  NotifySocket manager;
  FdStore::Descriptors handed_over;
  handed_over["http-0"].push_back(Listening());
  handed_over["bound-1"].push_back(Listening());
  FdStore store = FdStore::FromPredecessor(std::move(handed_over));
  UniqueFd http = store.Take("http-0");
  store.Remove("bound-1");
  UniqueFd bound = Listening();
  store.Keep("bound-2", bound.get());
  store.Keep("bound-3", bound.get());
  store.Remove("bound-3");
  store.Lend("lock-run", bound.get());
  CHECK(manager.Receive().text == "");
  store.Announce();
  CHECK(manager.Receive().text == "FDSTOREREMOVE=1\nFDNAME=bound-1");
  CHECK(manager.Receive().text == "FDSTOREREMOVE=1\nFDNAME=bound-3");
  CHECK(manager.Receive().text == "FDSTORE=1\nFDPOLL=0\nFDNAME=bound-2");
  CHECK(manager.Receive().text == "");
  store.Notify("READY=1");
  CHECK(manager.Receive().text == "READY=1");
}

TEST_CASE("an agent that was taken over from tells the service manager nothing more") {
  NotifySocket manager;
  FdStore store = FdStore::FromEnvironment();
  store.PassOn();
  CHECK(store.available());
  store.Notify("STOPPING=1");
  store.Keep("http-0", 0);
  store.Remove("http-0");
  CHECK(manager.Receive().text == "");
}

TEST_CASE("what was handed over is not the new agent's alone before it announces itself") {
  FdStore::Descriptors handed_over;
  handed_over["http-0"].emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  FdStore store = FdStore::FromPredecessor(std::move(handed_over));
  CHECK(store.available());
  store.Announce();
  CHECK_FALSE(store.available());  // there is no service manager
}

TEST_CASE("an agent that was taken over from lets go of what it kept, but for what was closed") {
  FdStore store;
  UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  UniqueFd other(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int number = other.get();
  store.Keep("http-0", listener.get());
  store.Keep("http-1", other.get());
  other = UniqueFd();
  UniqueFd unrelated(::dup(STDIN_FILENO));
  UniqueFd at_its_number(number == unrelated.get() ? -1 : ::dup2(unrelated.get(), number));
  store.LetGo();
  int type = 0;
  socklen_t size = sizeof type;
  CHECK(::getsockopt(listener.get(), SOL_SOCKET, SO_TYPE, &type, &size) != 0);
  struct stat before = {};
  struct stat after = {};
  CHECK(::fstat(STDIN_FILENO, &before) == 0);
  CHECK(::fstat(number, &after) == 0);
  CHECK(before.st_ino == after.st_ino);
  CHECK(store.kept().empty());
}

TEST_CASE("only a listening stream socket of the right family is taken for a listener") {
  UniqueFd listener = Listening();
  CHECK(CheckListening(listener.get(), AF_INET).ok());
  CHECK_FALSE(CheckListening(listener.get(), AF_UNIX).ok());
  UniqueFd idle(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  CHECK_FALSE(CheckListening(idle.get(), AF_INET).ok());
  UniqueFd datagrams(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  CHECK_FALSE(CheckListening(datagrams.get(), AF_INET).ok());
  CHECK_FALSE(CheckListening(0, AF_INET).ok());
  CHECK_FALSE(CheckListening(-1, AF_INET).ok());
  ::shutdown(listener.get(), SHUT_RDWR);
  CHECK_FALSE(CheckListening(listener.get(), AF_INET).ok());
}

}  // namespace
}  // namespace ctr
