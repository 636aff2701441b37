#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace ctr {

// The length in bytes of the UTF-8 sequence at the beginning of `text`, which is not empty; 0 if
// there is none (RFC 3629: no surrogates, no overlong forms, nothing above U+10FFFF).
inline size_t Utf8SequenceLength(std::string_view text) {
  auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  unsigned char first = byte(0);
  if (first < 0x80) return 1;
  size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  unsigned char second = byte(1);
  if (first == 0xE0 && second < 0xA0) return 0;
  if (first == 0xED && second >= 0xA0) return 0;
  if (first == 0xF0 && second < 0x90) return 0;
  if (first == 0xF4 && second >= 0x90) return 0;
  return length;
}

inline bool IsUtf8(std::string_view text) {
  while (!text.empty()) {
    const size_t length = Utf8SequenceLength(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

// Somebody else's words as a part of one line: control characters, and what is no UTF-8, become
// "?".
inline std::string Printable(std::string_view text) {
  std::string line;
  while (!text.empty()) {
    const size_t length = Utf8SequenceLength(text);
    const auto first = static_cast<unsigned char>(text[0]);
    const bool is_control = length == 1 && (first < ' ' || first == 0x7F);
    const bool is_late_control =  // U+0080 to U+009F
        length == 2 && first == 0xC2 && static_cast<unsigned char>(text[1]) < 0xA0;
    if (length == 0 || is_control || is_late_control) {
      line += '?';
    } else {
      line.append(text.substr(0, length));
    }
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return line;
}

}  // namespace ctr
