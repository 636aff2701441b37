#include "tests/integration/proxy/raw_client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <cerrno>

namespace ctr {

int RawResponse::status() const { return head.size() > 12 ? std::stoi(head.substr(9, 3)) : 0; }

std::string RawResponse::Field(std::string_view name) const {
  size_t line = head.find("\r\n");
  while (line != std::string::npos && line + 2 < head.size()) {
    line += 2;
    const size_t end = head.find("\r\n", line);
    const size_t colon = head.find(": ", line);
    if (colon == line + name.size() &&
        ::strncasecmp(head.data() + line, name.data(), name.size()) == 0) {
      return head.substr(colon + 2, end - colon - 2);
    }
    line = end;
  }
  return "";
}

RawClient::RawClient(const std::string& address) {
  const size_t colon = address.rfind(':');
  sockaddr_in endpoint = {};
  endpoint.sin_family = AF_INET;
  endpoint.sin_port = htons(static_cast<uint16_t>(std::stoi(address.substr(colon + 1))));
  ::inet_pton(AF_INET, address.substr(0, colon).c_str(), &endpoint.sin_addr);
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const timeval limit = {.tv_sec = 20, .tv_usec = 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&endpoint), sizeof endpoint) == 0) {
    fd_ = std::move(fd);
  }
}

bool RawClient::Send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

bool RawClient::Fill() {
  char bytes[65536];
  const ssize_t size = ::recv(fd_.get(), bytes, sizeof bytes, 0);
  if (size > 0) {
    buffer_.append(bytes, static_cast<size_t>(size));
    return true;
  }
  reset_ = size < 0 && errno == ECONNRESET;
  return false;
}

bool RawClient::TakeLine(std::string& line) {
  size_t end;
  while ((end = buffer_.find("\r\n")) == std::string::npos) {
    if (!Fill()) return false;
  }
  line = buffer_.substr(0, end);
  buffer_.erase(0, end + 2);
  return true;
}

bool RawClient::TakeBytes(size_t size, std::string& bytes) {
  while (buffer_.size() < size) {
    const size_t taken = buffer_.size();
    bytes += buffer_;
    buffer_.clear();
    size -= taken;
    if (!Fill()) return false;
  }
  bytes += buffer_.substr(0, size);
  buffer_.erase(0, size);
  return true;
}

void RawClient::ReceiveChunks(RawResponse& response) {
  for (;;) {
    std::string line;
    if (!TakeLine(line)) return;
    const size_t size = std::stoul(line, nullptr, 16);
    if (!TakeBytes(size, response.body) || !TakeLine(line)) return;
    if (size == 0) {
      response.complete = true;
      return;
    }
  }
}

RawResponse RawClient::Receive(Body body) {
  RawResponse response;
  size_t end;
  while ((end = buffer_.find("\r\n\r\n")) == std::string::npos) {
    if (!Fill()) {
      response.reset = reset_;
      return response;
    }
  }
  response.head = buffer_.substr(0, end + 4);
  buffer_.erase(0, end + 4);
  const int status = response.status();
  const std::string length = response.Field("Content-Length");
  if (body == Body::kNone || status < 200 || status == 204 || status == 304) {
    response.complete = true;
  } else if (response.Field("Transfer-Encoding") == "chunked") {
    ReceiveChunks(response);
  } else if (!length.empty()) {
    response.complete = TakeBytes(std::stoul(length), response.body);
  } else {
    while (Fill()) {
    }
    response.body = std::move(buffer_);
    buffer_.clear();
    response.complete = !reset_;
  }
  response.reset = reset_;
  return response;
}

bool RawClient::Closed() {
  if (!buffer_.empty()) return false;
  char byte;
  const ssize_t size = ::recv(fd_.get(), &byte, 1, 0);
  return size == 0 || (size < 0 && errno == ECONNRESET);
}

void RawClient::ShutdownWrite() { ::shutdown(fd_.get(), SHUT_WR); }

std::string RawClient::Rest() {
  while (Fill()) {
  }
  return std::exchange(buffer_, "");
}

}  // namespace ctr
