#include "agent/base/netlink.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "agent/base/descriptors.h"

namespace ctr {
namespace {

constexpr int kAttempts = 10;
constexpr size_t kBufferBytes = 32768;  // the kernel fills no more of it when it lists

}  // namespace

void NetlinkRequest::Append(const void* data, size_t size) {
  payload_.append(static_cast<const char*>(data), size);
  payload_.resize(NLMSG_ALIGN(payload_.size()));
}

void NetlinkRequest::Add(int attribute, const void* data, size_t size) {
  const rtattr header{.rta_len = static_cast<uint16_t>(RTA_LENGTH(size)),
                      .rta_type = static_cast<uint16_t>(attribute)};
  Append(&header, sizeof header);
  Append(data, size);
}

size_t NetlinkRequest::Begin(int attribute) {
  const size_t place = payload_.size();
  const rtattr header{.rta_len = 0, .rta_type = static_cast<uint16_t>(attribute)};
  Append(&header, sizeof header);
  return place;
}

void NetlinkRequest::End(size_t place) {
  const auto size = static_cast<uint16_t>(payload_.size() - place);
  std::memcpy(payload_.data() + place, &size, sizeof size);
}

std::string_view NetlinkAttributes::Find(int attribute) const {
  std::string_view left = bytes_;
  while (left.size() >= sizeof(rtattr)) {
    rtattr header;
    std::memcpy(&header, left.data(), sizeof header);
    if (header.rta_len < sizeof header || header.rta_len > left.size()) break;
    if ((header.rta_type & NLA_TYPE_MASK) == attribute) {
      return left.substr(sizeof header, header.rta_len - sizeof header);
    }
    left.remove_prefix(std::min<size_t>(RTA_ALIGN(header.rta_len), left.size()));
  }
  return {};
}

uint32_t NetlinkAttributes::Number(int attribute) const {
  const std::string_view bytes = Find(attribute);
  uint32_t number = 0;
  if (bytes.size() >= sizeof number) std::memcpy(&number, bytes.data(), sizeof number);
  return number;
}

std::string NetlinkAttributes::Text(int attribute) const {
  const std::string_view bytes = Find(attribute);
  return std::string(bytes.substr(0, bytes.find('\0')));
}

StatusOr<NetlinkSocket> NetlinkSocket::Open(int protocol) {
  UniqueFd fd(OpenDescriptor(
      [protocol] { return ::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol); }));
  if (!fd.valid()) return ErrnoError(errno, "netlink socket");
  return NetlinkSocket(std::move(fd));
}

Status NetlinkSocket::Send(const NetlinkRequest& request, int flags, std::string_view what) {
  nlmsghdr header = {};
  header.nlmsg_len = static_cast<uint32_t>(NLMSG_HDRLEN + request.payload_.size());
  header.nlmsg_type = request.type_;
  header.nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | request.flags_ | flags);
  header.nlmsg_seq = ++sequence_;
  std::string bytes(reinterpret_cast<const char*>(&header), sizeof header);
  bytes += request.payload_;
  if (::send(fd_.get(), bytes.data(), bytes.size(), 0) < 0) return ErrnoError(errno, what);
  return absl::OkStatus();
}

Status NetlinkSocket::Call(const NetlinkRequest& request, std::string_view what) {
  return Ask(request, what, [](uint16_t, std::string_view) {});
}

Status NetlinkSocket::Ask(const NetlinkRequest& request, std::string_view what, const Take& take) {
  for (int attempt = 1;; ++attempt) {
    CTR_ASSIGN_OR_RETURN(const Answers answers, AskOnce(request, what));
    if (answers.torn && attempt < kAttempts) continue;
    for (const Answer& answer : answers.all) take(answer.type, answer.message);
    return absl::OkStatus();
  }
}

StatusOr<NetlinkSocket::Answers> NetlinkSocket::AskOnce(const NetlinkRequest& request,
                                                        std::string_view what) {
  // A list ends by itself; anything else with its acknowledgement.
  const bool lists = (request.flags_ & NLM_F_DUMP) == NLM_F_DUMP;
  CTR_RETURN_IF_ERROR(Send(request, lists ? 0 : NLM_F_ACK, what));
  Answers answers;
  alignas(nlmsghdr) std::array<char, kBufferBytes> buffer;
  for (;;) {
    const ssize_t received = ::recv(fd_.get(), buffer.data(), buffer.size(), 0);
    if (received < 0 && errno == EINTR) continue;
    if (received < 0) return ErrnoError(errno, what);
    auto left = static_cast<size_t>(received);
    for (auto* header = reinterpret_cast<nlmsghdr*>(buffer.data()); NLMSG_OK(header, left);
         header = NLMSG_NEXT(header, left)) {
      if (header->nlmsg_seq != sequence_) continue;  // of a request that was given up
      answers.torn = answers.torn || (header->nlmsg_flags & NLM_F_DUMP_INTR) != 0;
      if (header->nlmsg_type == NLMSG_DONE) return answers;
      if (header->nlmsg_type == NLMSG_ERROR) {
        const int error = static_cast<const nlmsgerr*>(NLMSG_DATA(header))->error;
        if (error != 0) return ErrnoError(-error, what);
        return answers;
      }
      answers.all.push_back(
          {header->nlmsg_type,
           std::string(static_cast<const char*>(NLMSG_DATA(header)), NLMSG_PAYLOAD(header, 0))});
    }
  }
}

}  // namespace ctr
