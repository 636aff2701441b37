#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/container/inlined_vector.h"
#include "agent/base/error.h"

// HTTP/1.x message heads, read strictly (RFC 9112). One reader decides both what a message says and
// where it ends, over the very bytes that arrived: with two, a request that they read differently
// is a smuggled one. What is passed on is written afresh from what was read here.
namespace ctr {

// The fields that the proxy itself reads or writes.
enum class FieldId : uint8_t {
  kOther,
  kAccept,
  kConnection,
  kContentLength,
  kCtr,  // any Ctr-…
  kCtrClass,
  kCtrInstance,
  kCtrPort,
  kExpect,
  kForwarded,
  kForwardedFor,    // X-Forwarded-For
  kForwardedHost,   // X-Forwarded-Host
  kForwardedProto,  // X-Forwarded-Proto
  kHopByHop,        // Keep-Alive, Proxy-Connection …
  kHost,
  kTe,
  kTransferEncoding,
  kUpgrade,
};

struct Field {
  std::string_view name;
  std::string_view value;  // without the white space around it
  FieldId id = FieldId::kOther;
};

using Fields = absl::InlinedVector<Field, 24>;

enum class BodyKind { kNone, kFixed, kChunked, kUntilClose };

// Where a message's body ends.
struct Framing {
  BodyKind kind = BodyKind::kNone;
  uint64_t length = 0;  // of kFixed
};

// Views into the bytes that were parsed.
struct RequestHead {
  std::string_view method;
  std::string_view target;  // in origin form ("/…"), or "*" of OPTIONS
  std::string_view host;    // "" only in HTTP/1.0
  bool http10 = false;
  bool keep_alive = false;
  bool expects_continue = false;
  bool takes_trailers = false;  // TE: trailers
  // Upgrade names another protocol, and Connection says that it is meant. HTTP/2 is none: it would
  // carry requests that nobody here reads.
  bool upgrade = false;
  Framing body;
  Fields fields;
};

struct ResponseHead {
  int status = 0;
  std::string_view reason;
  bool http10 = false;
  bool keep_alive = false;
  Framing body;
  std::optional<std::string_view> content_length;  // as sent; of a HEAD's answer it frames nothing
  bool chunked = false;                            // as sent, likewise
  Fields fields;
};

// Whose message it is. In a value of an instance's, control characters pass, as they do with other
// proxies: programs put them into cookies. NUL, CR and LF never do.
enum class From { kClient, kInstance };

inline constexpr size_t kMaxHeadBytes = 64 * 1024;

// Whether a line may end in a bare LF. A client's may not; containers' CGI scripts often do, which
// every client takes, and there nothing is routed by what stands behind.
enum class LineEnds { kStrict, kLenient };

// Finds the end of a head in a growing buffer, looking at each byte once.
class HeadScanner {
 public:
  explicit HeadScanner(LineEnds line_ends) : line_ends_(line_ends) {}

  // The size of the head with its empty line; 0: more is needed. `bytes` is the whole buffer from
  // the head's first byte. bad_request if a line ends in a bare LF, or the head passes
  // kMaxHeadBytes.
  StatusOr<size_t> Scan(std::string_view bytes);

 private:
  LineEnds line_ends_;
  size_t scanned_ = 0;
  size_t line_begin_ = 0;
};

// Details of bad_request: what a request is refused for, where its status is not 400.
namespace detail {
inline constexpr std::string_view kExpectationFailed = "expectation_failed";            // 417
inline constexpr std::string_view kFieldsTooLarge = "fields_too_large";                 // 431
inline constexpr std::string_view kMethodNotAllowed = "method_not_allowed";             // 405
inline constexpr std::string_view kNotImplemented = "not_implemented";                  // 501
inline constexpr std::string_view kTargetTooLong = "target_too_long";                   // 414
inline constexpr std::string_view kVersionNotSupported = "http_version_not_supported";  // 505
}  // namespace detail

// `bytes` is a head as HeadScanner delimits it. Errors are bad_request, and the connection must be
// closed: where the message ends is not known.
StatusOr<RequestHead> ParseRequestHead(std::string_view bytes);

// `to_head`: the answer to a HEAD request has no body. Errors are upstream_error.
enum class AnswerTo { kHead, kOther };
StatusOr<ResponseHead> ParseResponseHead(std::string_view bytes, AnswerTo answer_to);

// Takes the next element off a comma-separated `list`, without the white space around it; it may be
// empty.
std::string_view TakeElement(std::string_view& list);
// Whether `list` has `token` in it. Case is ignored.
bool ListHas(std::string_view list, std::string_view token);
bool EqualsIgnoreCase(std::string_view a, std::string_view b);

// Whether an element of Upgrade may go on: a protocol, and not HTTP/2.
bool IsUpgrade(std::string_view protocol);

}  // namespace ctr
