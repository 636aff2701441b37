#include "agent/base/netlink.h"

#include <sys/socket.h>

#include <atomic>
#include <cstring>
#include <thread>

#include <doctest/doctest.h>

namespace ctr {
namespace {

// One message of a list as the kernel sends it.
std::string ListMessage(uint32_t sequence, uint16_t type, uint16_t flags, const std::string& body) {
  nlmsghdr header = {};
  header.nlmsg_len = static_cast<uint32_t>(NLMSG_LENGTH(body.size()));
  header.nlmsg_type = type;
  header.nlmsg_flags = static_cast<uint16_t>(NLM_F_MULTI | flags);
  header.nlmsg_seq = sequence;
  std::string bytes(reinterpret_cast<const char*>(&header), sizeof header);
  bytes += body;
  bytes.resize(NLMSG_ALIGN(bytes.size()));
  return bytes;
}

// Stands for the kernel: the first `torn` lists are marked as changed while they were made.
class Kernel {
 public:
  explicit Kernel(int torn) {
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    ours_ = UniqueFd(ends[0]);
    theirs_ = UniqueFd(ends[1]);
    thread_ = std::thread([this, torn] { Answer(torn); });
  }
  ~Kernel() {
    ::shutdown(ours_.get(), SHUT_RDWR);
    thread_.join();
  }

  UniqueFd Socket() { return std::move(theirs_); }
  int asked() const { return asked_; }

 private:
  void Answer(int torn) {
    char buffer[256];
    while (::recv(ours_.get(), buffer, sizeof buffer, 0) >=
           static_cast<ssize_t>(sizeof(nlmsghdr))) {
      nlmsghdr request;
      std::memcpy(&request, buffer, sizeof request);
      const uint16_t mark = asked_++ < torn ? NLM_F_DUMP_INTR : 0;
      const std::string text = "list" + std::to_string(asked_);
      const std::string list = ListMessage(request.nlmsg_seq, RTM_NEWLINK, 0, text) +
                               ListMessage(request.nlmsg_seq, NLMSG_DONE, mark, "\0\0\0\0");
      if (::send(ours_.get(), list.data(), list.size(), MSG_NOSIGNAL) < 0) return;
    }
  }

  UniqueFd ours_;
  UniqueFd theirs_;
  std::atomic<int> asked_ = 0;
  std::thread thread_;
};

std::vector<std::string> Listed(Kernel& kernel) {
  NetlinkSocket socket(kernel.Socket());
  std::vector<std::string> taken;
  const Status asked =
      socket.Ask(NetlinkRequest(RTM_GETLINK, NLM_F_DUMP, ifinfomsg{}), "a list",
                 [&](uint16_t, std::string_view message) { taken.emplace_back(message); });
  CHECK(asked.ok());
  return taken;
}

}  // namespace

TEST_CASE("a list that changed while the kernel made it is asked for again") {
  Kernel kernel(2);
  CHECK(Listed(kernel) == std::vector<std::string>{"list3"});
  CHECK(kernel.asked() == 3);
}

TEST_CASE("a list that changes all the time is taken as it is in the end") {
  Kernel kernel(1000);
  CHECK(Listed(kernel) == std::vector<std::string>{"list10"});
}

}  // namespace ctr
