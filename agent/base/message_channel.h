#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/asio.h"
#include "agent/base/error.h"
#include "agent/base/fd.h"
#include "agent/base/time.h"

namespace ctr {

// A text, and descriptors that go with it.
struct Message {
  std::string text;
  std::vector<UniqueFd> fds = {};
};

// What one message holds at most.
inline constexpr size_t kMaxMessageBytes = 32 * 1024;
inline constexpr size_t kMaxMessageFds = 128;

// A socket of messages (AF_UNIX, SOCK_SEQPACKET) at `path`. `Connect`: NOT_FOUND if nobody listens.
StatusOr<UniqueFd> ListenForMessages(const std::string& path);
StatusOr<UniqueFd> ConnectForMessages(const std::string& path);
// Block. UNAVAILABLE once the other end is gone, DEADLINE_EXCEEDED after `patience`.
Status SendMessage(int fd, const Message& message);
StatusOr<Message> ReceiveMessage(int fd, Duration patience);

// One end of such a connection on a loop, which it is used on.
class MessageChannel : public std::enable_shared_from_this<MessageChannel> {
 public:
  MessageChannel(asio::any_io_executor executor, UniqueFd socket);

  // In the order of the calls, and never waits. Nobody hears of it once the other end is gone.
  void Send(Message message);
  // The next message; nothing once the other end is gone, or after Close. One at a time.
  awaitable<std::optional<Message>> Read();
  // Returns when all is sent that Send was given, or will not be; false if it is not within
  // `patience`, since the other end does not read.
  awaitable<bool> Flush(Duration patience = std::chrono::seconds(1));
  void Close();

 private:
  awaitable<void> Write();

  asio::posix::stream_descriptor socket_;
  std::deque<Message> waiting_;
  bool writing_ = false;
};

}  // namespace ctr
