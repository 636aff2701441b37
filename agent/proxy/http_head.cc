#include "agent/proxy/http_head.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "agent/proxy/http_fields.h"

namespace ctr {
namespace {

Status BadRequest(std::string_view message, std::string_view detail) {
  return WithDetail(Error(absl::StatusCode::kInvalidArgument, code::kBadRequest, message), detail);
}

Status BadRequest(Problem problem) {
  return BadRequest(absl::StrCat("malformed request: ", std::string(problem.text)), problem.detail);
}

Status BadResponse(Problem problem) {
  return Error(absl::StatusCode::kUnavailable, code::kUpstreamError,
               absl::StrCat("the instance sent a malformed response: ", std::string(problem.text)));
}

// Visible characters and bytes above ASCII; no fragment, which a client never sends.
bool IsTarget(std::string_view target) {
  for (unsigned char c : target) {
    if (c <= 0x20 || c == 0x7f || c == '#') return false;
  }
  return !target.empty();
}

bool IsHostCharacter(unsigned char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '.' || c == '_' || c == '~' || c == '%';
}

bool IsPort(std::string_view text) {
  for (char c : text) {
    if (c < '0' || c > '9') return false;
  }
  return text.size() <= 5;
}

// A name, an IPv4 address or an [IPv6 address], and maybe a port. No user, no list, no path.
bool IsHost(std::string_view host) {
  size_t end = 0;
  if (host.starts_with('[')) {
    end = host.find(']');
    if (end == std::string_view::npos || end == 1) return false;
    for (char c : host.substr(1, end - 1)) {
      if (!IsHostCharacter(static_cast<unsigned char>(c)) && c != ':') return false;
    }
    ++end;
  } else {
    while (end < host.size() && IsHostCharacter(static_cast<unsigned char>(host[end]))) ++end;
    if (end == 0) return false;
  }
  if (end == host.size()) return true;
  return host[end] == ':' && IsPort(host.substr(end + 1));
}

Problem ReadHost(RequestHead& head) {
  int hosts = 0;
  for (const Field& field : head.fields) {
    if (field.id != FieldId::kHost) continue;
    ++hosts;
    head.host = field.value;
  }
  if (hosts > 1) return "Host is given twice";
  if (hosts == 0) return head.http10 ? Problem() : "Host is missing";
  return IsHost(head.host) ? Problem() : "Host is no host";
}

// Without a port that is empty or what the scheme means anyway.
std::string_view WithoutDefaultPort(std::string_view authority, std::string_view port) {
  if (authority.ends_with(port)) authority.remove_suffix(port.size());
  if (authority.ends_with(':')) authority.remove_suffix(1);
  return authority;
}

// The authority of an absolute target must be what Host says: nobody then reads it differently.
Problem ReadTarget(std::string_view target, RequestHead& head) {
  if (head.method == "CONNECT") return {"CONNECT is not offered here", detail::kMethodNotAllowed};
  if (!IsTarget(target)) return "the request target has a character that is not allowed";
  head.target = target;
  if (target.front() == '/') return {};
  if (target == "*") return head.method == "OPTIONS" ? Problem() : "the request target is no path";
  constexpr std::string_view kHttp = "http://";
  constexpr std::string_view kHttps = "https://";
  const bool https = EqualsIgnoreCase(target.substr(0, kHttps.size()), kHttps);
  if (!https && !EqualsIgnoreCase(target.substr(0, kHttp.size()), kHttp)) {
    return "the request target is no path";
  }
  target.remove_prefix(https ? kHttps.size() : kHttp.size());
  const size_t path = target.find_first_of("/?");
  const std::string_view authority = target.substr(0, path);
  if (!IsHost(authority)) return "the request target names no host";
  if (head.host.empty()) head.host = authority;
  const std::string_view port = https ? ":443" : ":80";
  if (!EqualsIgnoreCase(WithoutDefaultPort(authority, port), WithoutDefaultPort(head.host, port))) {
    return "the request target and Host disagree";
  }
  const std::string_view none = head.method == "OPTIONS" ? "*" : "/";
  head.target = path == std::string_view::npos ? none : target.substr(path);
  if (head.target == "*") return {};
  return head.target.front() == '/' ? Problem() : "the request target has a query but no path";
}

// What Connection lists is left out of what goes on: it must be readable in one way.
Problem CheckConnection(const RequestHead& head) {
  for (const Field& field : head.fields) {
    if (field.id == FieldId::kConnection && !IsTokenList(field.value)) {
      return "Connection is no list of names";
    }
  }
  return {};
}

Problem ReadExpect(RequestHead& head) {
  for (const Field& field : head.fields) {
    if (field.id != FieldId::kExpect) continue;
    for (std::string_view list = field.value; !list.empty();) {
      const std::string_view expectation = TakeElement(list);
      if (expectation.empty()) continue;
      if (!EqualsIgnoreCase(expectation, "100-continue")) {
        return {"Expect is not 100-continue", detail::kExpectationFailed};
      }
      head.expects_continue = !head.http10;
    }
  }
  return {};
}

void ReadUpgrade(RequestHead& head, bool meant) {
  for (const Field& field : head.fields) {
    if (field.id == FieldId::kTe) head.takes_trailers |= ListHas(field.value, "trailers");
    if (field.id != FieldId::kUpgrade || head.http10 || !meant) continue;
    for (std::string_view list = field.value; !list.empty();) {
      head.upgrade |= IsUpgrade(TakeElement(list));
    }
  }
}

Problem ReadRequest(std::string_view bytes, RequestHead& head) {
  std::string_view line = TakeLine(bytes);
  const size_t method_end = line.find(' ');
  const size_t version_begin = line.rfind(' ');
  if (method_end == std::string_view::npos || version_begin == method_end) {
    return "the request line is not METHOD TARGET VERSION";
  }
  head.method = line.substr(0, method_end);
  if (!IsToken(head.method)) return "the method is not a token";
  if (Problem problem = ReadVersion(line.substr(version_begin + 1), head.http10);
      !problem.empty()) {
    return problem;
  }
  const std::string_view target = line.substr(method_end + 1, version_begin - method_end - 1);
  if (Problem problem = ParseFields(bytes, From::kClient, head.fields); !problem.empty()) {
    return problem;
  }
  if (Problem problem = ReadHost(head); !problem.empty()) return problem;
  if (Problem problem = ReadTarget(target, head); !problem.empty()) return problem;

  FramingFields framing;
  if (Problem problem = ReadFraming(head.fields, head.http10, framing); !problem.empty()) {
    return problem;
  }
  if (framing.chunked) head.body.kind = BodyKind::kChunked;
  if (framing.content_length) head.body = {BodyKind::kFixed, framing.length};
  head.keep_alive = !framing.close && (!head.http10 || framing.keep_alive);
  if (Problem problem = CheckConnection(head); !problem.empty()) return problem;
  ReadUpgrade(head, framing.upgrade);
  return ReadExpect(head);
}

// "HTTP/1.1 200 OK"; the reason and the space before it may be missing.
Problem ReadStatusLine(std::string_view line, ResponseHead& head) {
  if (line.size() < 12 || line[8] != ' ' || !ReadVersion(line.substr(0, 8), head.http10).empty()) {
    return "it does not begin with HTTP/1.1 and a status";
  }
  for (char digit : line.substr(9, 3)) {
    if (digit < '0' || digit > '9') return "the status is no number";
    head.status = head.status * 10 + (digit - '0');
  }
  if (head.status < 100) return "the status is not 100 to 999";
  if (line.size() > 12 && line[12] != ' ') return "the status has more than three digits";
  head.reason = line.size() > 13 ? line.substr(13) : std::string_view();
  for (unsigned char c : head.reason) {
    if ((c < 0x20 && c != '\t') || c == 0x7f) return "the reason has a control character";
  }
  return {};
}

Problem ReadResponse(std::string_view bytes, AnswerTo answer_to, ResponseHead& head) {
  if (Problem problem = ReadStatusLine(TakeLine(bytes), head); !problem.empty()) return problem;
  if (Problem problem = ParseFields(bytes, From::kInstance, head.fields); !problem.empty()) {
    return problem;
  }
  FramingFields framing;
  if (Problem problem = ReadFraming(head.fields, head.http10, framing); !problem.empty()) {
    return problem;
  }
  head.content_length = framing.content_length;
  head.chunked = framing.chunked;
  head.keep_alive = !framing.close && (!head.http10 || framing.keep_alive);
  // A 204 must not speak of a body: if one comes, nobody's answer may be behind it.
  if (head.status == 204 && (framing.chunked || framing.length > 0)) head.keep_alive = false;
  if (answer_to == AnswerTo::kHead || head.status < 200 || head.status == 204 ||
      head.status == 304) {
    return {};
  }
  if (framing.chunked) {
    head.body.kind = BodyKind::kChunked;
  } else if (framing.content_length) {
    head.body = {BodyKind::kFixed, framing.length};
  } else {
    head.body.kind = BodyKind::kUntilClose;
    head.keep_alive = false;
  }
  return {};
}

}  // namespace

StatusOr<size_t> HeadScanner::Scan(std::string_view bytes) {
  while (scanned_ < bytes.size()) {
    const void* found = std::memchr(bytes.data() + scanned_, '\n', bytes.size() - scanned_);
    if (found == nullptr) {
      scanned_ = bytes.size();
      break;
    }
    const size_t end = static_cast<const char*>(found) - bytes.data();
    std::string_view line = bytes.substr(line_begin_, end - line_begin_);
    if (line.ends_with('\r')) {
      line.remove_suffix(1);
    } else if (line_ends_ == LineEnds::kStrict) {
      return BadRequest("a line ends in LF without CR");
    }
    scanned_ = line_begin_ = end + 1;
    if (line.empty() && scanned_ <= kMaxHeadBytes) return scanned_;
  }
  if (scanned_ >= kMaxHeadBytes) {
    return line_begin_ == 0
               ? BadRequest("the request's target is larger than 64 KiB", detail::kTargetTooLong)
               : BadRequest("the request's header is larger than 64 KiB", detail::kFieldsTooLarge);
  }
  return 0;
}

bool IsUpgrade(std::string_view protocol) {
  return !protocol.empty() && !EqualsIgnoreCase(protocol, "h2c") &&
         !EqualsIgnoreCase(protocol, "h2");
}

StatusOr<RequestHead> ParseRequestHead(std::string_view bytes) {
  RequestHead head;
  if (Problem problem = ReadRequest(bytes, head); !problem.empty()) return BadRequest(problem);
  return head;
}

StatusOr<ResponseHead> ParseResponseHead(std::string_view bytes, AnswerTo answer_to) {
  ResponseHead head;
  if (Problem problem = ReadResponse(bytes, answer_to, head); !problem.empty()) {
    return BadResponse(problem);
  }
  return head;
}

}  // namespace ctr
