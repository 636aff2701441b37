#include "agent/proxy/http_body.h"

#include <algorithm>
#include <charconv>

#include "agent/proxy/http_fields.h"

namespace ctr {
namespace {

constexpr size_t kMaxSizeLine = 4096;  // with its extensions
constexpr size_t kMaxTrailers = 16 * 1024;

Status Broken(std::string_view why) {
  return absl::InvalidArgumentError(absl::string_view(why.data(), why.size()));
}

bool HasControl(std::string_view text) {
  return std::any_of(text.begin(), text.end(),
                     [](unsigned char c) { return (c < 0x20 && c != '\t') || c == 0x7f; });
}

}  // namespace

size_t BodyPieces::TotalSize() const {
  size_t size = 0;
  for (std::string_view piece : Get()) size += piece.size();
  return size;
}

BodyDecoder::BodyDecoder(Framing framing, From from)
    : chunked_(framing.kind == BodyKind::kChunked), from_(from), left_(framing.length) {
  switch (framing.kind) {
    case BodyKind::kNone:
      state_ = State::kDone;
      break;
    case BodyKind::kFixed:
      state_ = framing.length == 0 ? State::kDone : State::kData;
      break;
    case BodyKind::kChunked:
      state_ = State::kSize;
      break;
    case BodyKind::kUntilClose:
      state_ = State::kUntilClose;
      break;
  }
}

StatusOr<size_t> BodyDecoder::Decode(std::string_view bytes, BodyPieces& pieces) {
  size_t used = 0;
  while (used < bytes.size() && !done()) {
    const std::string_view rest = bytes.substr(used);
    if (state_ == State::kData || state_ == State::kUntilClose) {
      if (pieces.full()) break;
      pieces.Add(TakeData(rest));
      used += pieces.Get().back().size();
      continue;
    }
    CTR_ASSIGN_OR_RETURN(const size_t line_size, ReadLine(rest));
    if (line_size == 0) break;  // an unfinished line stays with the caller until there is more
    used += line_size;
  }
  return used;
}

bool BodyDecoder::EndOfStream() {
  if (state_ == State::kUntilClose) state_ = State::kDone;
  return done();
}

std::string_view BodyDecoder::TakeData(std::string_view bytes) {
  if (state_ == State::kUntilClose) return bytes;
  bytes = bytes.substr(0, std::min<uint64_t>(left_, bytes.size()));
  left_ -= bytes.size();
  if (left_ == 0) state_ = chunked_ ? State::kDataEnd : State::kDone;
  return bytes;
}

// Takes a whole line off `bytes`, if there is one: its size with the end, else 0.
StatusOr<size_t> BodyDecoder::ReadLine(std::string_view bytes) {
  const size_t limit = state_ == State::kTrailer ? kMaxTrailers : kMaxSizeLine;
  const size_t end = bytes.find('\n', line_bytes_);
  line_bytes_ = end == std::string_view::npos ? bytes.size() : 0;
  if (std::min(end, bytes.size()) > limit) return Broken("a line of the chunked body is too long");
  if (end == std::string_view::npos) return 0;
  if (end == 0 || bytes[end - 1] != '\r') {
    return Broken("a line of the chunked body does not end in CR LF");
  }
  const std::string_view line = bytes.substr(0, end - 1);
  switch (state_) {
    case State::kSize:
      CTR_RETURN_IF_ERROR(TakeSizeLine(line));
      break;
    case State::kDataEnd:
      if (!line.empty()) return Broken("a chunk is longer than its size says");
      state_ = State::kSize;
      break;
    default:
      CTR_RETURN_IF_ERROR(TakeTrailerLine(line));
      break;
  }
  return end + 1;
}

// Hexadecimal digits, then maybe extensions, which are dropped. Instances may pad the digits.
Status BodyDecoder::TakeSizeLine(std::string_view line) {
  if (HasControl(line)) return Broken("a chunk's size has a control character");
  size_t digits = std::min(line.find_first_not_of("0123456789abcdefABCDEF"), line.size());
  if (digits == 0 || digits > 15) return Broken("a chunk's size is no number");
  std::from_chars(line.data(), line.data() + digits, left_, 16);
  const size_t next = line.find_first_not_of(" \t", digits);
  const bool padded = next == std::string_view::npos && digits != line.size();
  if (padded ? from_ == From::kClient : next != std::string_view::npos && line[next] != ';') {
    return Broken("a chunk's size is no number");
  }
  state_ = left_ == 0 ? State::kTrailer : State::kData;
  return absl::OkStatus();
}

Status BodyDecoder::TakeTrailerLine(std::string_view line) {
  if (line.empty()) {
    state_ = State::kDone;
    return absl::OkStatus();
  }
  trailer_bytes_ += line.size();
  if (trailer_bytes_ > kMaxTrailers) return Broken("the trailers are larger than 16 KiB");
  Field field;
  if (Problem problem = ParseField(line, from_, field); !problem.empty()) {
    return Broken(problem.text);
  }
  if (IsTrailer(field)) {
    trailers_.append(field.name).append(": ").append(field.value).append("\r\n");
  }
  return absl::OkStatus();
}

}  // namespace ctr
