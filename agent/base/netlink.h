#pragma once

#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/error.h"
#include "agent/base/fd.h"

namespace ctr {

// One netlink request: a header, the message's own struct, and attributes.
class NetlinkRequest {
 public:
  // `flags` beside NLM_F_REQUEST.
  template <typename Body>
  NetlinkRequest(uint16_t type, int flags, const Body& body) : type_(type), flags_(flags) {
    Append(&body, sizeof body);
  }

  void Add(int attribute, const void* data, size_t size);
  void Add(int attribute, uint32_t number) { Add(attribute, &number, sizeof number); }
  // A string, with its zero.
  void AddText(int attribute, const std::string& text) {
    Add(attribute, text.c_str(), text.size() + 1);
  }
  // Attributes within one: End gets what Begin returned. `body`, if there is one, stands before
  // them.
  size_t Begin(int attribute);
  template <typename Body>
  size_t Begin(int attribute, const Body& body) {
    const size_t place = Begin(attribute);
    Append(&body, sizeof body);
    return place;
  }
  void End(size_t place);

 private:
  friend class NetlinkSocket;

  void Append(const void* data, size_t size);

  uint16_t type_;
  int flags_;
  std::string payload_;  // what follows the header; padded
};

// The attributes of an answer, walked one by one. The bytes outlive it.
class NetlinkAttributes {
 public:
  explicit NetlinkAttributes(std::string_view bytes) : bytes_(bytes) {}

  // "" if there is none of that type.
  std::string_view Find(int attribute) const;
  // 0 if there is none.
  uint32_t Number(int attribute) const;
  // A string, without its zero.
  std::string Text(int attribute) const;

 private:
  std::string_view bytes_;
};

// A netlink socket with the kernel's own side. Calls block for as long as the kernel takes, which
// may be tens of milliseconds where it waits for others' changes. One thread at a time.
class NetlinkSocket {
 public:
  // Of the calling thread's network namespace.
  static StatusOr<NetlinkSocket> Open(int protocol);
  explicit NetlinkSocket(UniqueFd fd) : fd_(std::move(fd)) {}

  // Has the request acknowledged. The kernel's own errors: NOT_FOUND (no such device, address or
  // route), ALREADY_EXISTS and so on, with `what` before them.
  Status Call(const NetlinkRequest& request, std::string_view what);
  // Passes every answer on to `take`: its type, and its message without the header. A list that
  // changed while the kernel made it is asked for again, ten times at most.
  using Take = std::function<void(uint16_t type, std::string_view message)>;
  Status Ask(const NetlinkRequest& request, std::string_view what, const Take& take);

 private:
  struct Answer {
    uint16_t type = 0;
    std::string message;
  };
  struct Answers {
    std::vector<Answer> all;
    bool torn = false;  // something changed meanwhile: one may be missing, or be there twice
  };
  Status Send(const NetlinkRequest& request, int flags, std::string_view what);
  StatusOr<Answers> AskOnce(const NetlinkRequest& request, std::string_view what);

  UniqueFd fd_;
  uint32_t sequence_ = 0;
};

}  // namespace ctr
