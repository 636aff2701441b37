#pragma once

#include <sys/uio.h>

#include <memory>
#include <span>
#include <string_view>

#include "absl/container/inlined_vector.h"
#include "agent/base/asio.h"
#include "agent/base/fd.h"
#include "agent/proxy/buffer.h"
#include "agent/proxy/poller.h"

namespace ctr {

// What one writev sends. The views are not copied.
class WriteBatch {
 public:
  void Add(std::string_view bytes) {
    if (bytes.empty()) return;
    parts_.push_back({const_cast<char*>(bytes.data()), bytes.size()});
  }
  bool empty() const { return parts_.empty(); }
  // What is not sent yet.
  std::span<iovec> parts() { return std::span(parts_.data(), parts_.size()).subspan(sent_); }
  void SetSent(size_t parts) { sent_ = parts; }

 private:
  absl::InlinedVector<iovec, 20> parts_;
  size_t sent_ = 0;  // whole parts
};

// One end of a TCP connection with what was read from it and not used yet. Home: its poller's data
// loop. One coroutine may read while another writes.
class Stream {
 public:
  // Takes a non-blocking, close-on-exec socket.
  Stream(Poller& poller, UniqueFd fd, PolledSocket::First first = PolledSocket::First::kReady)
      : socket_(poller, std::move(fd), first) {}

  Buffer& in() { return in_; }
  int fd() const { return socket_.fd(); }
  PolledSocket& socket() { return socket_; }
  const asio::any_io_executor& executor() { return socket_.poller().executor(); }

  bool reading() const { return reading_; }
  // Whether a Write waits for the peer to take more.
  bool blocked() const { return blocked_; }
  // So many bytes came and went so far.
  uint64_t received() const { return received_; }
  uint64_t sent() const { return sent_; }
  // By who reads and writes its socket itself.
  void Count(uint64_t received, uint64_t sent) {
    received_ += received;
    sent_ += sent;
  }

  // Reads once into in(): the number of bytes; 0 if the peer closed or reset the connection, or
  // it was closed here.
  awaitable<size_t> Read();
  // Writes all of it; false if the peer is gone. What `batch` views must stay until it returns.
  awaitable<bool> Write(WriteBatch batch);
  // Writes what the socket takes at once, and takes it off `batch`: kMore is for Write.
  enum class Written { kAll, kMore, kGone };
  Written WriteNow(WriteBatch& batch);
  // Ends a Read that waits, which then gives 0, and a Write.
  void Cancel();

  // What became of the peer, whether or not there are bytes before that: kClosing has said that it
  // sends no more, and may still read, or be gone without a trace.
  enum class Peer { kOpen, kClosing, kGone };
  Peer LookAtPeer();
  // Whether the last Read ended because the peer had sent all.
  bool ended() const { return ended_; }
  // Whether there is anything to read, the end included; asks the kernel.
  bool Readable() const;
  // The same as far as the poller has told: costs nothing, and may be a turn of the loop late.
  bool SeemsReadable() const { return socket_.ready(PolledSocket::kRead); }
  // The peer sees a reset, not an end: what it got is not all.
  void CloseWithReset();
  void Close() { socket_.Close(); }
  void ShutdownWrite();

 private:
  awaitable<void> GiveWay();

  PolledSocket socket_;
  Buffer in_;
  bool reading_ = false;
  bool blocked_ = false;
  bool ended_ = false;
  int in_a_row_ = 0;  // reads without a wait
  uint64_t received_ = 0;
  uint64_t sent_ = 0;
};

}  // namespace ctr
