#include "agent/proxy/http_fields.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <string>

namespace ctr {
namespace {

constexpr size_t kMaxFields = 200;

constexpr std::array<bool, 256> TokenCharacters() {
  std::array<bool, 256> table{};
  for (int c = '0'; c <= '9'; ++c) table[c] = true;
  for (int c = 'a'; c <= 'z'; ++c) table[c] = table[c - 'a' + 'A'] = true;
  for (char c : std::string_view("!#$%&'*+-.^_`|~")) table[static_cast<unsigned char>(c)] = true;
  return table;
}
constexpr std::array<bool, 256> kToken = TokenCharacters();

constexpr char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

// Any control character but a tab: NUL, bare CR, DEL and the rest.
bool HasControl(std::string_view value, From from) {
  for (unsigned char c : value) {
    if (c >= 0x20 && c != 0x7f) continue;
    if (c == '\0' || c == '\r' || c == '\n' || (c != '\t' && from == From::kClient)) return true;
  }
  return false;
}

bool IsBlank(char c) { return c == ' ' || c == '\t'; }

std::string_view Trim(std::string_view value) {
  while (!value.empty() && IsBlank(value.front())) value.remove_prefix(1);
  while (!value.empty() && IsBlank(value.back())) value.remove_suffix(1);
  return value;
}

FieldId IdOfCtr(std::string_view name) {
  if (EqualsIgnoreCase(name, "ctr-class")) return FieldId::kCtrClass;
  if (EqualsIgnoreCase(name, "ctr-instance")) return FieldId::kCtrInstance;
  if (EqualsIgnoreCase(name, "ctr-port")) return FieldId::kCtrPort;
  return FieldId::kCtr;
}

FieldId IdOfDashed(std::string_view name) {
  if (name.size() >= 4 && EqualsIgnoreCase(name.substr(0, 4), "ctr-")) return IdOfCtr(name);
  const auto is = [&](std::string_view known) { return EqualsIgnoreCase(name, known); };
  switch (name.size()) {
    case 2:
      return is("te") ? FieldId::kTe : FieldId::kOther;
    case 4:
      return is("host") ? FieldId::kHost : FieldId::kOther;
    case 6:
      if (is("accept")) return FieldId::kAccept;
      return is("expect") ? FieldId::kExpect : FieldId::kOther;
    case 7:
      return is("upgrade") ? FieldId::kUpgrade : FieldId::kOther;
    case 9:
      return is("forwarded") ? FieldId::kForwarded : FieldId::kOther;
    case 10:
      if (is("connection")) return FieldId::kConnection;
      return is("keep-alive") ? FieldId::kHopByHop : FieldId::kOther;
    case 14:
      if (is("content-length")) return FieldId::kContentLength;
      return is("http2-settings") ? FieldId::kHopByHop : FieldId::kOther;
    case 15:
      return is("x-forwarded-for") ? FieldId::kForwardedFor : FieldId::kOther;
    case 16:
      if (is("x-forwarded-host")) return FieldId::kForwardedHost;
      return is("proxy-connection") ? FieldId::kHopByHop : FieldId::kOther;
    case 17:
      if (is("x-forwarded-proto")) return FieldId::kForwardedProto;
      return is("transfer-encoding") ? FieldId::kTransferEncoding : FieldId::kOther;
    case 19:
      return is("proxy-authorization") ? FieldId::kHopByHop : FieldId::kOther;
    default:
      return FieldId::kOther;
  }
}

// To CGI, and to all that follows it, "X_Forwarded_For" and "X-Forwarded-For" are the same: what so
// looks like a field of ours goes nowhere.
FieldId IdOf(std::string_view name) {
  if (name.find('_') == std::string_view::npos) return IdOfDashed(name);
  std::string dashed(name);
  std::replace(dashed.begin(), dashed.end(), '_', '-');
  const FieldId id = IdOfDashed(dashed);
  return id == FieldId::kOther || id == FieldId::kAccept ? FieldId::kOther : FieldId::kHopByHop;
}

// Digits only, and few enough not to overflow: no sign, no list, no white space inside.
bool ReadLength(std::string_view text, uint64_t& length) {
  if (text.empty() || text.size() > 18) return false;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), length);
  return error == std::errc() && end == text.data() + text.size();
}

// Other codings and then chunked, once: it frames the body, though nobody here can decode it. If
// chunked is not the last, nobody knows where the body ends (RFC 9112, 6.3).
bool IsCodedAndChunked(std::string_view codings) {
  if (!IsTokenList(codings)) return false;
  std::string_view coding;
  bool others = false;
  while (!codings.empty()) {
    if (EqualsIgnoreCase(coding, "chunked")) return false;
    coding = TakeElement(codings);
    if (coding.empty()) return false;
    others |= !codings.empty();
  }
  return others && EqualsIgnoreCase(coding, "chunked");
}

}  // namespace

bool EqualsIgnoreCase(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (Lower(a[i]) != Lower(b[i])) return false;
  }
  return true;
}

std::string_view TakeElement(std::string_view& list) {
  const size_t comma = list.find(',');
  const std::string_view element = Trim(list.substr(0, comma));
  list.remove_prefix(comma == std::string_view::npos ? list.size() : comma + 1);
  return element;
}

bool ListHas(std::string_view list, std::string_view token) {
  while (!list.empty()) {
    if (EqualsIgnoreCase(TakeElement(list), token)) return true;
  }
  return false;
}

bool IsToken(std::string_view text) {
  for (unsigned char c : text) {
    if (!kToken[c]) return false;
  }
  return !text.empty();
}

bool IsTokenList(std::string_view text) {
  while (!text.empty()) {
    const std::string_view element = TakeElement(text);
    if (!element.empty() && !IsToken(element)) return false;
  }
  return true;
}

std::string_view TakeLine(std::string_view& rest) {
  const size_t end = rest.find('\n');
  std::string_view line = rest.substr(0, end);
  rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

Problem ParseField(std::string_view line, From from, Field& field) {
  if (IsBlank(line.front())) return "a field is continued on a second line (obs-fold)";
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos) return "a field line has no colon";
  field.name = line.substr(0, colon);
  if (!field.name.empty() && IsBlank(field.name.back())) {
    return "white space stands before a field's colon";
  }
  if (!IsToken(field.name)) return "a field's name is not a token";
  field.value = Trim(line.substr(colon + 1));
  if (HasControl(field.value, from)) return "a field's value has a control character";
  field.id = IdOf(field.name);
  return {};
}

bool IsTrailer(const Field& field) {
  constexpr std::array<std::string_view, 14> kNever = {
      "authorization", "cache-control", "content-encoding", "content-range",   "content-type",
      "cookie",        "date",          "expires",          "location",        "max-forwards",
      "range",         "set-cookie",    "trailer",          "www-authenticate"};
  return field.id == FieldId::kOther &&
         std::none_of(kNever.begin(), kNever.end(),
                      [&](std::string_view name) { return EqualsIgnoreCase(field.name, name); });
}

Problem ParseFields(std::string_view lines, From from, Fields& fields) {
  for (std::string_view line = TakeLine(lines); !line.empty(); line = TakeLine(lines)) {
    if (fields.size() == kMaxFields) {
      return {"there are more than 200 fields", detail::kFieldsTooLarge};
    }
    if (Problem problem = ParseField(line, from, fields.emplace_back()); !problem.empty()) {
      return problem;
    }
  }
  return {};
}

Problem ReadFraming(const Fields& fields, bool http10, FramingFields& framing) {
  bool coded = false;
  for (const Field& field : fields) {
    switch (field.id) {
      case FieldId::kContentLength:
        if (framing.content_length) return "Content-Length is given twice";
        if (!ReadLength(field.value, framing.length)) return "Content-Length is no number";
        framing.content_length = field.value;
        break;
      case FieldId::kTransferEncoding:
        if (http10) return "Transfer-Encoding stands in an HTTP/1.0 message";
        if (framing.chunked) return "Transfer-Encoding is given twice";
        coded = !EqualsIgnoreCase(field.value, "chunked");
        if (coded && !IsCodedAndChunked(field.value)) {
          return "Transfer-Encoding is something other than chunked";
        }
        framing.chunked = true;
        break;
      case FieldId::kConnection:
        framing.close |= ListHas(field.value, "close");
        framing.keep_alive |= ListHas(field.value, "keep-alive");
        framing.upgrade |= ListHas(field.value, "upgrade");
        break;
      default:
        break;
    }
  }
  if (framing.chunked && framing.content_length) {
    return "both Transfer-Encoding and Content-Length are given";
  }
  if (coded) return {"no Transfer-Encoding but chunked is known here", detail::kNotImplemented};
  return {};
}

Problem ReadVersion(std::string_view text, bool& http10) {
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  if (text.size() != 8 || !text.starts_with("HTTP/") || !is_digit(text[5]) || text[6] != '.' ||
      !is_digit(text[7])) {
    return "the version is not HTTP/1.1 or HTTP/1.0";
  }
  if (text[5] != '1') {
    return {"the version is neither HTTP/1.1 nor HTTP/1.0", detail::kVersionNotSupported};
  }
  http10 = text[7] == '0';
  return {};
}

}  // namespace ctr
