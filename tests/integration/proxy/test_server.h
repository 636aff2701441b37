#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "agent/base/netns.h"

namespace ctr {

// A network namespace of its own, with lo as the agent prepares an instance's.
std::shared_ptr<const NetworkNamespace> MakeNetworkNamespace();

// One connection that a TestServer accepted; blocking.
class ServerConnection {
 public:
  ServerConnection(int fd, int number) : fd_(fd), number_(number) {}

  int fd() const { return fd_; }
  int number() const { return number_; }  // 0 for the server's first

  // The next request's head with its empty line; "" at the end.
  std::string ReadHead();
  // The body that `head` frames, without its chunks; shorter if the client closed.
  std::string ReadBody(const std::string& head);
  // As many bytes as there are, `limit` at most; "" at the end.
  std::string ReadSome(size_t limit);
  bool Write(std::string_view text);
  void Reset();  // the peer sees a reset

 private:
  std::string ReadExactly(size_t size);
  std::string ReadLine();

  const int fd_;
  const int number_;
  std::string buffer_;
};

// What an instance's program does with a connection, on a thread of its own, until it returns.
using Program = std::function<void(ServerConnection&)>;

// A program that listens inside a network namespace.
class TestServer {
 public:
  TestServer(const NetworkNamespace& netns, uint16_t port, Program program);
  ~TestServer() { Stop(); }

  int connections() const { return connections_; }
  // Refuses from now on, and closes what is open.
  void Stop();

 private:
  void Serve();

  const Program program_;
  UniqueFd listener_;
  std::atomic<int> connections_{0};
  std::mutex mutex_;
  std::set<int> open_;
  std::vector<std::thread> workers_;
  std::thread thread_;
};

// A gate that a test opens.
class Latch {
 public:
  void Open() {
    std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  void Wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return open_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
};

// Serves requests, one after the other, by `answer`: from head and body to the bytes to send. ""
// closes.
Program Answering(
    std::function<std::string(const std::string& head, const std::string& body)> answer);

// "HTTP/1.1 200 OK" with that body and its length.
std::string Ok(std::string_view body);

}  // namespace ctr
