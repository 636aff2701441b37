#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "agent/base/error.h"
#include "agent/proxy/http_head.h"

namespace ctr {

// Views of a body's bytes, in order, without their framing.
class BodyPieces {
 public:
  void Clear() { count_ = 0; }
  bool full() const { return count_ == pieces_.size(); }
  void Add(std::string_view piece) { pieces_[count_++] = piece; }
  std::span<const std::string_view> Get() const { return {pieces_.data(), count_}; }
  size_t TotalSize() const;

 private:
  std::array<std::string_view, 16> pieces_;
  size_t count_ = 0;
};

// Takes a body out of its framing as its bytes come in; strict, no I/O.
class BodyDecoder {
 public:
  BodyDecoder(Framing framing, From from);

  // Reads `bytes` from the front: what belongs to the body is added to `pieces`. Returns how many
  // bytes it has read: all, unless the body ended or `pieces` is full. INVALID_ARGUMENT if the
  // framing is broken.
  StatusOr<size_t> Decode(std::string_view bytes, BodyPieces& pieces);

  bool done() const { return state_ == State::kDone; }
  // Once done(): the lines of the trailers that may be passed on, each with its CR LF; "" if there
  // are none. What frames, routes or authorises a message is no trailer (RFC 9110, 6.5.1).
  std::string_view trailers() const { return trailers_; }
  // The sender closed: whether that ends the body properly. Then done() holds.
  bool EndOfStream();

 private:
  enum class State { kData, kUntilClose, kSize, kDataEnd, kTrailer, kDone };

  StatusOr<size_t> ReadLine(std::string_view bytes);
  Status TakeSizeLine(std::string_view line);
  Status TakeTrailerLine(std::string_view line);
  std::string_view TakeData(std::string_view bytes);

  State state_;
  const bool chunked_;
  const From from_;
  uint64_t left_ = 0;         // of the fixed body, or of the chunk
  size_t line_bytes_ = 0;     // looked at of an unfinished line
  size_t trailer_bytes_ = 0;  // of all trailers
  std::string trailers_;
};

}  // namespace ctr
