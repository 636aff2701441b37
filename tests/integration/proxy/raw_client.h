#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "agent/base/fd.h"

namespace ctr {

// A response as it came over the wire.
struct RawResponse {
  std::string head;       // with its empty line; "" if the connection ended instead
  std::string body;       // without its chunks
  bool complete = false;  // the framing says that this is all
  bool reset = false;     // the connection ended by a reset

  int status() const;
  // The value of a field, "" if there is none. Case is ignored.
  std::string Field(std::string_view name) const;
};

// A client that sends exactly what it is told; blocking, gives up after 20 seconds of nothing.
class RawClient {
 public:
  // "127.0.0.1:8080". Not connected if that is refused.
  explicit RawClient(const std::string& address);

  bool connected() const { return fd_.valid(); }
  int fd() const { return fd_.get(); }
  bool Send(std::string_view bytes);
  // `no_body`: answers a HEAD.
  enum class Body { kExpected, kNone };
  RawResponse Receive(Body body = Body::kExpected);
  RawResponse Ask(std::string_view bytes, Body body = Body::kExpected) {
    Send(bytes);
    return Receive(body);
  }
  // Whether the server closes within 20 seconds, with nothing before.
  bool Closed();
  void ShutdownWrite();
  // Everything up to the end.
  std::string Rest();
  void Close() { fd_.Reset(); }

 private:
  bool Fill();
  bool TakeLine(std::string& line);
  bool TakeBytes(size_t size, std::string& bytes);
  void ReceiveChunks(RawResponse& response);

  UniqueFd fd_;
  std::string buffer_;
  bool reset_ = false;
};

}  // namespace ctr
