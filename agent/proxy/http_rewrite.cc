#include "agent/proxy/http_rewrite.h"

#include <algorithm>
#include <charconv>
#include <initializer_list>

namespace ctr {
namespace {

void Append(std::string& out, std::initializer_list<std::string_view> parts) {
  for (std::string_view part : parts) out.append(part);
}

void AppendNumber(std::string& out, uint64_t number, int base = 10) {
  char digits[24];
  auto [end, error] = std::to_chars(digits, digits + sizeof digits, number, base);
  out.append(digits, end);
}

// Milliseconds with three decimals.
void AppendMilliseconds(std::string& out, Duration duration) {
  const auto micros = std::max<int64_t>(0, duration / std::chrono::microseconds(1));
  AppendNumber(out, static_cast<uint64_t>(micros / 1000));
  const int fraction = static_cast<int>(micros % 1000);
  const char decimals[] = {'.', static_cast<char>('0' + fraction / 100),
                           static_cast<char>('0' + fraction / 10 % 10),
                           static_cast<char>('0' + fraction % 10)};
  out.append(decimals, sizeof decimals);
}

// The names that Connection lists beside close and keep-alive: fields for this hop alone.
class ListedFields {
 public:
  explicit ListedFields(const Fields& fields) {
    for (const Field& field : fields) {
      if (field.id == FieldId::kConnection && !EqualsIgnoreCase(field.value, "close") &&
          !EqualsIgnoreCase(field.value, "keep-alive")) {
        lists_.push_back(field.value);
      }
    }
  }
  bool Has(std::string_view name) const {
    return std::any_of(lists_.begin(), lists_.end(),
                       [&](std::string_view list) { return ListHas(list, name); });
  }

 private:
  absl::InlinedVector<std::string_view, 2> lists_;
};

// Whether a field is passed on just as it came. In a response, what tells an instance of a request
// is a field like any other.
bool IsPassedOn(FieldId id, From from) {
  switch (id) {
    case FieldId::kOther:
    case FieldId::kAccept:
      return true;
    case FieldId::kExpect:
    case FieldId::kForwarded:
    case FieldId::kForwardedFor:
    case FieldId::kForwardedHost:
    case FieldId::kForwardedProto:
    case FieldId::kHost:
      return from == From::kInstance;
    default:
      return false;
  }
}

void AppendOwnFields(std::string& out, const Fields& fields, From from) {
  const ListedFields listed(fields);
  for (const Field& field : fields) {
    if (IsPassedOn(field.id, from) && !listed.Has(field.name)) {
      Append(out, {field.name, ": ", field.value, "\r\n"});
    }
  }
}

// As one list, without HTTP/2.
void AppendUpgrade(std::string& out, const Fields& fields) {
  std::string_view before = "Connection: upgrade\r\nUpgrade: ";
  for (const Field& field : fields) {
    if (field.id != FieldId::kUpgrade) continue;
    for (std::string_view list = field.value; !list.empty();) {
      const std::string_view protocol = TakeElement(list);
      if (!IsUpgrade(protocol)) continue;
      Append(out, {before, protocol});
      before = ", ";
    }
  }
  if (before == ", ") out.append("\r\n");
}

// The one value of a field that the client's proxy has set; "" if there is none or there are more.
std::string_view OnlyValue(const Fields& fields, FieldId id) {
  std::string_view value;
  for (const Field& field : fields) {
    if (field.id != id) continue;
    if (!value.empty()) return {};
    value = field.value;
  }
  return value;
}

// Whether a quoted text in it has no end: it would swallow whatever is appended.
bool HasOpenQuote(std::string_view value) {
  bool quoted = false;
  for (size_t i = 0; i < value.size(); ++i) {
    if (value[i] == '"') quoted = !quoted;
    if (value[i] == '\\' && quoted) ++i;
  }
  return quoted;
}

void AppendEarlier(std::string& out, const Fields& fields, FieldId id) {
  for (const Field& field : fields) {
    if (field.id == id && !field.value.empty() && !HasOpenQuote(field.value)) {
      Append(out, {field.value, ", "});
    }
  }
}

void AppendForwarded(std::string& out, const RequestHead& request, Forwarding forwarding,
                     std::string_view host) {
  std::string_view first_host = host;
  std::string_view proto = "http";
  if (forwarding.trusted) {
    const std::string_view said_host = OnlyValue(request.fields, FieldId::kForwardedHost);
    if (!said_host.empty()) first_host = said_host;
    if (EqualsIgnoreCase(OnlyValue(request.fields, FieldId::kForwardedProto), "https")) {
      proto = "https";
    }
  }
  out.append("X-Forwarded-For: ");
  AppendEarlier(out, request.fields, FieldId::kForwardedFor);
  Append(out, {forwarding.client_address, "\r\nX-Forwarded-Host: ", first_host,
               "\r\nX-Forwarded-Proto: ", proto, "\r\nForwarded: "});
  AppendEarlier(out, request.fields, FieldId::kForwarded);
  const bool is_ipv6 = forwarding.client_address.find(':') != std::string_view::npos;
  Append(out, {is_ipv6 ? "for=\"[" : "for=", forwarding.client_address, is_ipv6 ? "]\"" : "",
               ";host=\"", host, "\";proto=", proto, "\r\n"});
}

void AppendOrigin(std::string& out, const InstanceName& instance, Timings timings) {
  Append(out,
         {"Ctr-Instance: ", instance.class_name, "/", instance.id, "\r\nServer-Timing: wake;dur="});
  AppendMilliseconds(out, timings.wake);
  out.append(", route;dur=");
  AppendMilliseconds(out, timings.route);
  out.append("\r\n");
}

}  // namespace

void AppendUpstreamRequest(std::string& out, const RequestHead& request, Forwarding forwarding) {
  const std::string_view host = request.host.empty() ? forwarding.host_if_missing : request.host;
  Append(out, {request.method, " ", request.target, " HTTP/1.1\r\nHost: ", host, "\r\n"});
  AppendOwnFields(out, request.fields, From::kClient);
  AppendForwarded(out, request, forwarding, host);
  if (forwarding.upgrade) {
    AppendUpgrade(out, request.fields);
  } else if (request.takes_trailers) {
    out.append("TE: trailers\r\nConnection: TE\r\n");
  }
  if (request.expects_continue && forwarding.body_waits) out.append("Expect: 100-continue\r\n");
  if (request.body.kind == BodyKind::kFixed) {
    out.append("Content-Length: ");
    AppendNumber(out, request.body.length);
    out.append("\r\n");
  } else if (request.body.kind == BodyKind::kChunked) {
    out.append("Transfer-Encoding: chunked\r\n");
  }
  out.append("\r\n");
}

ClientFraming FrameForClient(const ResponseHead& response, ClientSide client) {
  switch (response.body.kind) {
    case BodyKind::kNone:
    case BodyKind::kFixed:
      return {response.body.kind, client.keep_alive};
    default:
      if (client.http10) return {BodyKind::kUntilClose, false};
      return {BodyKind::kChunked, client.keep_alive};
  }
}

void AppendClientResponse(std::string& out, const ResponseHead& response, ClientSide client,
                          ClientFraming framing, const InstanceName& instance, Timings timings) {
  out.append("HTTP/1.1 ");
  AppendNumber(out, static_cast<uint64_t>(response.status));
  Append(out, {" ", response.reason, "\r\n"});
  AppendOwnFields(out, response.fields, From::kInstance);
  // An answer to HEAD and a 304 say how long the body would be; a 204 must not.
  const bool has_length = response.content_length && response.status >= 200 &&
                          response.status != 204 && framing.kind != BodyKind::kChunked &&
                          framing.kind != BodyKind::kUntilClose;
  if (has_length) {
    Append(out, {"Content-Length: ", *response.content_length, "\r\n"});
  } else if (framing.kind == BodyKind::kChunked ||
             (response.chunked && framing.kind == BodyKind::kNone && response.status != 204 &&
              !client.http10)) {
    out.append("Transfer-Encoding: chunked\r\n");
  }
  AppendConnection(out, client.http10, framing.keep_alive);
  if (response.status == 426) AppendUpgrade(out, response.fields);  // it is of no use without
  AppendOrigin(out, instance, timings);
  out.append("\r\n");
}

void AppendSwitchResponse(std::string& out, const ResponseHead& response,
                          const InstanceName& instance, Timings timings) {
  Append(out, {"HTTP/1.1 101 ", response.reason, "\r\n"});
  AppendOwnFields(out, response.fields, From::kInstance);
  for (const Field& field : response.fields) {
    if (field.id == FieldId::kUpgrade) Append(out, {"Upgrade: ", field.value, "\r\n"});
  }
  out.append("Connection: upgrade\r\n");
  AppendOrigin(out, instance, timings);
  out.append("\r\n");
}

void AppendInterimResponse(std::string& out, const ResponseHead& response) {
  out.append("HTTP/1.1 ");
  AppendNumber(out, static_cast<uint64_t>(response.status));
  Append(out, {" ", response.reason, "\r\n"});
  AppendOwnFields(out, response.fields, From::kInstance);
  out.append("\r\n");
}

void AppendConnection(std::string& out, bool http10, bool keep_alive) {
  if (!keep_alive) {
    out.append("Connection: close\r\n");
  } else if (http10) {
    out.append("Connection: keep-alive\r\n");
  }
}

void AppendChunkSize(std::string& out, size_t size) {
  AppendNumber(out, size, 16);
  out.append("\r\n");
}

}  // namespace ctr
