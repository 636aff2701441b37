#pragma once

#include <string_view>

#include "agent/proxy/http_head.h"

namespace ctr {

// What is wrong with a message; empty if nothing. `detail` is a request's, where 400 is not the
// status for it.
struct Problem {
  Problem() = default;
  Problem(const char* text) : text(text) {}  // NOLINT(google-explicit-constructor)
  Problem(const char* text, std::string_view detail) : text(text), detail(detail) {}
  bool empty() const { return text.empty(); }

  std::string_view text;
  std::string_view detail;
};

bool IsToken(std::string_view text);
// Tokens, or nothing, between commas.
bool IsTokenList(std::string_view text);

// Takes one line off the front of `rest`, without its end. The head was delimited by HeadScanner:
// there is a line.
std::string_view TakeLine(std::string_view& rest);

// Reads one field line, without its end.
Problem ParseField(std::string_view line, From from, Field& field);

// Whether a field that stands behind a body may be passed on there.
bool IsTrailer(const Field& field);

// Reads the field lines of a head up to its empty line.
Problem ParseFields(std::string_view lines, From from, Fields& fields);

// Framing fields, as they stand in a message; each at most once, and never both.
struct FramingFields {
  std::optional<std::string_view> content_length;
  uint64_t length = 0;
  bool chunked = false;
  bool close = false;       // Connection: close
  bool keep_alive = false;  // Connection: keep-alive
  bool upgrade = false;     // Connection: upgrade
};
Problem ReadFraming(const Fields& fields, bool http10, FramingFields& framing);

// "HTTP/1.1" or "HTTP/1.0", or a later HTTP/1 of one digit, which is read as HTTP/1.1 (RFC 9110,
// 2.5).
Problem ReadVersion(std::string_view text, bool& http10);

}  // namespace ctr
