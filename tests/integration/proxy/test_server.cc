#include "tests/integration/proxy/test_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include <doctest/doctest.h>

namespace ctr {
namespace {

// The value of `name` in `head`, which is compared as it is written.
std::string FieldOf(const std::string& head, const std::string& name) {
  const size_t at = head.find("\r\n" + name + ": ");
  if (at == std::string::npos) return "";
  const size_t begin = at + name.size() + 4;
  return head.substr(begin, head.find("\r\n", begin) - begin);
}

}  // namespace

std::shared_ptr<const NetworkNamespace> MakeNetworkNamespace() {
  std::shared_ptr<const NetworkNamespace> netns;
  std::thread([&] {
    REQUIRE(::unshare(CLONE_NEWNET) == 0);
    netns = std::make_shared<const NetworkNamespace>(*NetworkNamespace::Current());
  }).join();
  REQUIRE(netns->PrepareLoopback().ok());
  return netns;
}

std::string ServerConnection::ReadSome(size_t limit) {
  if (buffer_.empty()) {
    char bytes[65536];
    const ssize_t size = ::recv(fd_, bytes, std::min(limit, sizeof bytes), 0);
    return size > 0 ? std::string(bytes, static_cast<size_t>(size)) : "";
  }
  std::string some = buffer_.substr(0, limit);
  buffer_.erase(0, some.size());
  return some;
}

std::string ServerConnection::ReadHead() {
  for (;;) {
    if (size_t end = buffer_.find("\r\n\r\n"); end != std::string::npos) {
      std::string head = buffer_.substr(0, end + 4);
      buffer_.erase(0, end + 4);
      return head;
    }
    std::string more;
    std::swap(more, buffer_);
    std::string read = ReadSome(65536);
    buffer_ = more + read;
    if (read.empty()) return "";
  }
}

std::string ServerConnection::ReadExactly(size_t size) {
  std::string bytes;
  while (bytes.size() < size) {
    std::string more = ReadSome(size - bytes.size());
    if (more.empty()) break;
    bytes += more;
  }
  return bytes;
}

std::string ServerConnection::ReadLine() {
  std::string line;
  while (!line.ends_with("\r\n")) {
    std::string byte = ReadExactly(1);
    if (byte.empty()) break;
    line += byte;
  }
  return line;
}

std::string ServerConnection::ReadBody(const std::string& head) {
  if (std::string length = FieldOf(head, "Content-Length"); !length.empty()) {
    return ReadExactly(std::stoul(length));
  }
  std::string body;
  if (FieldOf(head, "Transfer-Encoding") != "chunked") return body;
  for (;;) {
    const std::string line = ReadLine();
    if (line.empty()) return body;
    const size_t size = std::stoul(line, nullptr, 16);
    body += ReadExactly(size);
    ReadLine();
    if (size == 0) return body;
  }
}

bool ServerConnection::Write(std::string_view text) {
  while (!text.empty()) {
    const ssize_t sent = ::send(fd_, text.data(), text.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    text.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

void ServerConnection::Reset() {
  const linger now = {.l_onoff = 1, .l_linger = 0};
  ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

TestServer::TestServer(const NetworkNamespace& netns, uint16_t port, Program program)
    : program_(std::move(program)) {
  listener_ = *netns.Socket(AF_INET, SOCK_STREAM, 0);
  const int on = 1;
  ::setsockopt(listener_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  REQUIRE(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  REQUIRE(::listen(listener_.get(), 1024) == 0);
  thread_ = std::thread([this] { Serve(); });
}

void TestServer::Stop() {
  if (!thread_.joinable()) return;
  ::shutdown(listener_.get(), SHUT_RDWR);
  thread_.join();
  {
    std::lock_guard lock(mutex_);
    for (int fd : open_) ::shutdown(fd, SHUT_RDWR);
  }
  for (std::thread& worker : workers_) worker.join();
  listener_.Reset();
}

void TestServer::Serve() {
  for (;;) {
    const int fd = ::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) return;
    const int number = connections_++;
    std::lock_guard lock(mutex_);
    open_.insert(fd);
    workers_.emplace_back([this, fd, number] {
      ServerConnection connection(fd, number);
      program_(connection);
      std::lock_guard closing(mutex_);
      open_.erase(fd);
      ::close(fd);
    });
  }
}

Program Answering(
    std::function<std::string(const std::string& head, const std::string& body)> answer) {
  return [answer = std::move(answer)](ServerConnection& connection) {
    for (std::string head = connection.ReadHead(); !head.empty(); head = connection.ReadHead()) {
      const std::string body = connection.ReadBody(head);
      const std::string bytes = answer(head, body);
      if (bytes.empty() || !connection.Write(bytes)) return;
    }
  };
}

std::string Ok(std::string_view body) {
  return "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" +
         std::string(body);
}

}  // namespace ctr
